//! The table that is compiled in. `data/README.md` has its source, licences and format.

use std::net::IpAddr;

use super::{Country, Location};

static IPV4: &[u8] = include_bytes!("../../data/asean-ipv4.bin");
static IPV6: &[u8] = include_bytes!("../../data/asean-ipv6.bin");

/// The country byte of a record is a position in this list.
const COUNTRIES: [Country; 6] =
    [Country(*b"SG"), Country(*b"MY"), Country(*b"ID"), Country(*b"TH"), Country(*b"VN"), Country(*b"PH")];

pub(super) fn locate(address: IpAddr) -> Location {
    match address {
        IpAddr::V4(v4) => find(IPV4.as_chunks::<9>().0, v4.octets()),
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h, ..] = v6.octets();
            find(IPV6.as_chunks::<17>().0, [a, b, c, d, e, f, g, h])
        }
    }
}

/// Big-endian numbers compare as their bytes do, so the table is searched as it lies in the executable.
fn find<const WIDTH: usize, const ROW: usize>(rows: &[[u8; ROW]], address: [u8; WIDTH]) -> Location {
    let after = rows.partition_point(|row| row[..WIDTH] <= address[..]);
    let before = after.checked_sub(1).map(|n| &rows[n]);
    let wanted = number(&address);
    if let Some(row) = before.filter(|row| row[WIDTH..2 * WIDTH] >= address[..]) {
        let (first, last) = (number(&row[..WIDTH]), number(&row[WIDTH..2 * WIDTH]));
        let country = COUNTRIES.get(usize::from(row[2 * WIDTH])).copied();
        return Location { country, prefix_len: prefix_len(WIDTH, wanted, first, last) };
    }
    // Between two rows: nowhere that is known, and so are its neighbours.
    let first = before.map_or(0, |row| number(&row[WIDTH..2 * WIDTH]) + 1);
    let last = rows.get(after).map_or(u64::MAX >> (64 - 8 * WIDTH), |row| number(&row[..WIDTH]) - 1);
    Location { country: None, prefix_len: prefix_len(WIDTH, wanted, first, last) }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The length of the largest network around an address of `width` bytes that is all within a range.
fn prefix_len(width: usize, address: u64, first: u64, last: u64) -> u8 {
    let bits = u32::try_from(8 * width).expect("an address has at most 8 bytes here");
    let within = |len: &u32| {
        let host = if *len == bits { 0 } else { u64::MAX >> (64 - bits + len) };
        address & !host >= first && address | host <= last
    };
    let len = (0..bits).find(within).unwrap_or(bits);
    u8::try_from(len).expect("at most 64")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<const WIDTH: usize, const ROW: usize>(table: &[u8]) {
        let (rows, rest) = table.as_chunks::<ROW>();
        assert!(rest.is_empty() && rows.len() > 1000);
        for row in rows {
            assert!(row[..WIDTH] <= row[WIDTH..2 * WIDTH]);
            assert!(usize::from(row[2 * WIDTH]) < COUNTRIES.len());
        }
        for pair in rows.windows(2) {
            assert!(pair[0][WIDTH..2 * WIDTH] < pair[1][..WIDTH]);
        }
    }

    #[test]
    fn tables_are_sorted_disjoint_and_small() {
        check::<4, 9>(IPV4);
        check::<8, 17>(IPV6);
        assert!(IPV4.len() + IPV6.len() <= 400 * 1024);
    }

    #[test]
    fn edges_of_a_range_are_inside_and_their_neighbours_are_not() {
        let rows = [[10, 20, 0], [22, 22, 5]];
        let found = |address| find::<1, 3>(&rows, [address]).country.map(|country| country.to_string());
        assert_eq!(found(9), None);
        assert_eq!(found(10).as_deref(), Some("SG"));
        assert_eq!(found(20).as_deref(), Some("SG"));
        assert_eq!(found(21), None);
        assert_eq!(found(22).as_deref(), Some("PH"));
        assert_eq!(found(23), None);
    }

    #[test]
    fn the_prefix_is_that_of_the_largest_network_of_the_same_place() {
        let rows = [[16, 31, 0], [32, 34, 5]];
        let prefix_len = |address| find::<1, 3>(&rows, [address]).prefix_len;
        assert_eq!(prefix_len(20), 4, "16-31 is one network");
        assert_eq!(prefix_len(33), 7, "32-33");
        assert_eq!(prefix_len(34), 8);
        assert_eq!(prefix_len(3), 4, "0-15 is nowhere");
        assert_eq!(prefix_len(200), 1, "128-255 is nowhere");
    }
}
