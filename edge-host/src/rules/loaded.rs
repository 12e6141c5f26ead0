use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cart_core::{Applied, Cart, Command, Context, Manifest, Quote, Rejection, limits};
use region_router::traces::{self, Kind, Span};
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::component::{Linker, WasmStr};
use wasmtime::{PoolConcurrencyLimitError, ResourceLimiter, Store, StoreContextMut, Trap};

use super::bindings::{self, Instance, InstancePre};
use super::check;
use super::engine::RulesLimits;
use super::{Revision, RulesError};

/// Bytes of the log that are kept of one call: a few lines of a rule developer.
const LOG_BYTES_MAX: usize = 1024;
/// Fuel for one call of `log`, and one for each byte of it: about what it costs the host.
const LOG_FUEL: u64 = 200;
/// Bytes that one answer may have on the host. The largest cart there can be, 500 lines with 64 KiB of variants,
/// takes 0.2 MiB; carts from before that limit, with a variant of 1 KiB in each line, take 0.6 MiB.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Elements of one table: function pointers, of which cart rules have less than a hundred.
pub(super) const TABLE_ELEMENTS_MAX: usize = 4096;

/// One checked revision of the rules. Share it in an `Arc`.
pub struct Rules {
    pub(super) revision: Revision,
    pub(super) manifest: Manifest,
    pub(super) bytes: Bytes,
    pub(super) calls: Calls,
    pub(super) permits: Arc<Semaphore>,
}

/// An answer of the rules, and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<T> {
    /// The answer, checked.
    pub value: T,
    /// Instructions, as the engine counts them: the same in every region.
    pub fuel: u64,
    /// From the making of the instance to the checked answer.
    pub duration: Duration,
    /// What the rules logged, at most 1 KiB, a line for each call of `log`.
    pub log: String,
}

impl Rules {
    /// Their name by content.
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    /// Who they say they are.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The component, as it was loaded.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The cart after a command, or the rules' reason why not. Takes microseconds and does not block.
    pub fn apply(
        &self,
        cart: &Cart,
        command: &Command,
        context: &Context,
    ) -> Result<Outcome<Result<Applied, Rejection>>, RulesError> {
        let _permit = self.permit()?;
        self.in_span("rules apply", || self.calls.apply(cart, command, context))
    }

    /// What the cart costs. Takes microseconds and does not block.
    pub fn quote(&self, cart: &Cart, context: &Context) -> Result<Outcome<Quote>, RulesError> {
        let _permit = self.permit()?;
        self.in_span("rules quote", || self.calls.quote(cart, context))
    }

    /// The price to be charged, or every reason why not. Takes microseconds and does not block.
    pub fn checkout(
        &self,
        cart: &Cart,
        context: &Context,
    ) -> Result<Outcome<Result<Quote, Vec<Rejection>>>, RulesError> {
        let _permit = self.permit()?;
        self.in_span("rules checkout", || self.calls.checkout(cart, context))
    }

    fn in_span<T>(
        &self,
        name: &'static str,
        call: impl FnOnce() -> Result<Outcome<T>, RulesError>,
    ) -> Result<Outcome<T>, RulesError> {
        let describe =
            || Span::new(Kind::Internal, name).with("troli.rules.revision", self.revision.to_string());
        traces::span_of(describe, call, |outcome, span| match outcome {
            Ok(outcome) => span.note("troli.rules.fuel", i64::try_from(outcome.fuel).unwrap_or(i64::MAX)),
            Err(error) => span.fail(error.code()),
        })
    }

    /// A full pool is an error that looks like broken rules, so there are fewer permits than instances.
    fn permit(&self) -> Result<SemaphorePermit<'_>, RulesError> {
        self.permits.try_acquire().map_err(|_| RulesError::Busy)
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("revision", &self.revision).field("manifest", &self.manifest).finish()
    }
}

/// How a linked component is called: every call in an instance of its own, within the limits, its answer
/// checked. Without a permit: the self-check must not be turned away by shoppers.
#[derive(Clone)]
pub(super) struct Calls {
    pub(super) linked: InstancePre<Call>,
    pub(super) limits: RulesLimits,
}

impl Calls {
    pub(super) fn describe(&self) -> Result<Outcome<Manifest>, RulesError> {
        self.run("describe", 0, |store, instance| instance.describe(store), |_| Ok(()))
    }

    pub(super) fn apply(
        &self,
        cart: &Cart,
        command: &Command,
        context: &Context,
    ) -> Result<Outcome<Result<Applied, Rejection>>, RulesError> {
        let merged = if let Command::Merge { from, .. } = command { from.lines.len() } else { 0 };
        self.run(
            "apply",
            cart.lines.len() + merged,
            |store, instance| instance.apply(store, cart, command, context),
            |answer| {
                // Whatever the rules say of it.
                if answer.as_ref().is_ok_and(|applied| has_too_many_variants(cart, &applied.cart)) {
                    *answer = Err(Rejection::VariantsTooLarge);
                }
                match answer {
                    Ok(applied) => check::applied(cart, command, context, applied),
                    Err(rejection) => check::rejection(cart, command, rejection),
                }
            },
        )
    }

    pub(super) fn quote(&self, cart: &Cart, context: &Context) -> Result<Outcome<Quote>, RulesError> {
        let world = self.linked.world();
        self.run(
            "quote",
            cart.lines.len(),
            |store, instance| instance.quote(store, cart, context),
            |quote| check::quote(world, cart, context, quote),
        )
    }

    pub(super) fn checkout(
        &self,
        cart: &Cart,
        context: &Context,
    ) -> Result<Outcome<Result<Quote, Vec<Rejection>>>, RulesError> {
        let world = self.linked.world();
        self.run(
            "checkout",
            cart.lines.len(),
            |store, instance| instance.checkout(store, cart, context),
            |answer| match answer {
                Ok(quote) => check::quote(world, cart, context, quote),
                Err(rejections) => check::rejections(cart, rejections),
            },
        )
    }

    fn run<T>(
        &self,
        name: &str,
        lines: usize,
        call: impl FnOnce(&mut Store<Call>, &Instance) -> wasmtime::Result<T>,
        check: impl FnOnce(&mut T) -> check::Checked,
    ) -> Result<Outcome<T>, RulesError> {
        let started = Instant::now();
        let budget = self.limits.fuel(lines);
        let mut store = Store::new(self.linked.engine(), Call::new(self.limits.memory_bytes));
        store.limiter(|call| call);
        store.set_hostcall_fuel(ANSWER_BYTES_MAX);
        store.set_epoch_deadline(self.limits.deadline_ticks());
        let answer = store.set_fuel(budget).and_then(|()| {
            let instance = self.linked.instantiate(&mut store)?;
            call(&mut store, &instance)
        });
        let left = store.get_fuel().unwrap_or(0);
        let Call { log, .. } = store.into_data();
        let mut value = answer.map_err(|error| failure(&error, &log))?;
        check(&mut value)
            .map_err(|detail| RulesError::InvalidOutput { detail: format!("in {name}: {detail}") })?;
        Ok(Outcome { value, fuel: budget - left, duration: started.elapsed(), log })
    }
}

/// A cart that has too many bytes of variants may lose some, and may not gain any.
fn has_too_many_variants(before: &Cart, after: &Cart) -> bool {
    let bytes = after.variants_bytes();
    bytes > limits::VARIANTS_BYTES_MAX && bytes > before.variants_bytes()
}

/// What belongs to one call.
pub(super) struct Call {
    memory_left: usize,
    log: String,
}

/// Rules asked for more memory than they may have. Breaks the call off there and then: a guest that is only
/// told "no" aborts a little later for a reason that nobody can read.
#[derive(Debug, thiserror::Error)]
#[error("out of memory")]
struct MemoryDenied;

impl Call {
    fn new(memory_bytes: usize) -> Self {
        Self { memory_left: memory_bytes, log: String::new() }
    }

    fn log(&mut self, message: &str) {
        let room = LOG_BYTES_MAX - self.log.len();
        let message = &message[..message.floor_char_boundary(room)];
        self.log.push_str(message);
        if !message.is_empty() && self.log.len() < LOG_BYTES_MAX {
            self.log.push('\n');
        }
    }
}

impl ResourceLimiter for Call {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // Counted over all memories together, because a component may have several.
        let growth = desired.saturating_sub(current);
        self.memory_left = self.memory_left.checked_sub(growth).ok_or(MemoryDenied)?;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

/// Offers the one function that rules may call. It costs fuel, or a loop around it would cost the host
/// whatever it likes.
pub(super) fn link_log(linker: &mut Linker<Call>) -> wasmtime::Result<()> {
    linker.root().func_wrap(bindings::LOG, |mut store: StoreContextMut<'_, Call>, (message,): (WasmStr,)| {
        let text = message.to_str(&store)?;
        let cost = LOG_FUEL + text.len() as u64;
        let kept = text[..text.floor_char_boundary(LOG_BYTES_MAX)].to_string();
        let left = store.get_fuel()?.saturating_sub(cost);
        store.set_fuel(left)?;
        store.data_mut().log(&kept);
        Ok(())
    })
}

fn failure(error: &wasmtime::Error, log: &str) -> RulesError {
    if error.is::<MemoryDenied>() {
        return RulesError::OutOfMemory;
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return RulesError::Busy;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => RulesError::OutOfFuel,
        Some(Trap::Interrupt) => RulesError::TimedOut,
        Some(trap) if log.is_empty() => RulesError::Trapped { detail: trap.to_string() },
        Some(trap) => RulesError::Trapped { detail: format!("{trap}; they logged: {}", log.trim_end()) },
        // What is left are answers that cannot be read: pointers out of bounds, broken UTF-8, too many bytes.
        None => RulesError::InvalidOutput { detail: format!("{error:#}") },
    }
}
