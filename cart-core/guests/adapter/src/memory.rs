//! The memory of one call.
//!
//! An instance lives for one call, so nothing needs to be given back: memory is handed out from front to back.
//! That is faster and smaller than a general allocator, and a usual cart never has to ask the host for memory,
//! which costs more than the call itself.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;

/// Enough for a cart of a hundred lines; beyond it, the host is asked.
const ARENA_BYTES: usize = 112 * 1024;
/// Asked for at once: each time costs two system calls.
const GROW_PAGES_MIN: usize = 8;
const PAGE_BYTES: usize = 64 * 1024;

#[repr(align(16))]
struct Arena(UnsafeCell<[u8; ARENA_BYTES]>);

struct Bump(UnsafeCell<Range>);

struct Range {
    /// 0 before the first allocation.
    next: usize,
    end: usize,
}

// Safety: wasm32-unknown-unknown without atomics has one thread.
unsafe impl Sync for Arena {}
unsafe impl Sync for Bump {}

static ARENA: Arena = Arena(UnsafeCell::new([0; ARENA_BYTES]));

#[global_allocator]
static ALLOCATOR: Bump = Bump(UnsafeCell::new(Range { next: 0, end: 0 }));

// Safety: pieces handed out do not overlap, because `next` only goes back over a piece that was given back.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let range = unsafe { &mut *self.0.get() };
        if range.next == 0 {
            range.next = ARENA.0.get() as usize;
            range.end = range.next + ARENA_BYTES;
        }
        let start = (range.next + layout.align() - 1) & !(layout.align() - 1);
        if layout.size() <= range.end.saturating_sub(start) {
            range.next = start + layout.size();
            return start as *mut u8;
        }
        grow(range, layout)
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        let range = unsafe { &mut *self.0.get() };
        if piece as usize + layout.size() == range.next {
            range.next = piece as usize;
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let range = unsafe { &mut *self.0.get() };
        // A vector that grows is mostly the last piece, and stays where it is.
        if piece as usize + layout.size() == range.next && size <= range.end - piece as usize {
            range.next = piece as usize + size;
            return piece;
        }
        if size <= layout.size() {
            return piece;
        }
        unsafe {
            let larger = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !larger.is_null() {
                ptr::copy_nonoverlapping(piece, larger, layout.size());
            }
            larger
        }
    }
}

#[cold]
#[inline(never)]
fn grow(range: &mut Range, layout: Layout) -> *mut u8 {
    let pages = (layout.size() + layout.align()).div_ceil(PAGE_BYTES).max(GROW_PAGES_MIN);
    let before = core::arch::wasm32::memory_grow::<0>(pages);
    if before == usize::MAX {
        return ptr::null_mut();
    }
    let fresh = before * PAGE_BYTES;
    if range.end != fresh {
        range.next = fresh;
    }
    range.end = fresh + pages * PAGE_BYTES;
    let start = (range.next + layout.align() - 1) & !(layout.align() - 1);
    range.next = start + layout.size();
    start as *mut u8
}
