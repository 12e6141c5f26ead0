//! The table that is compiled in. `data/README.md` has its source, licences and format.

use std::net::IpAddr;

use super::Country;

static IPV4: &[u8] = include_bytes!("../../data/asean-ipv4.bin");
static IPV6: &[u8] = include_bytes!("../../data/asean-ipv6.bin");

/// The country byte of a record is a position in this list.
const COUNTRIES: [Country; 6] =
    [Country(*b"SG"), Country(*b"MY"), Country(*b"ID"), Country(*b"TH"), Country(*b"VN"), Country(*b"PH")];

pub(super) fn country_of(address: IpAddr) -> Option<Country> {
    match address {
        IpAddr::V4(v4) => find(IPV4.as_chunks::<9>().0, v4.octets()),
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h, ..] = v6.octets();
            find(IPV6.as_chunks::<17>().0, [a, b, c, d, e, f, g, h])
        }
    }
}

/// Big-endian numbers compare as their bytes do, so the table is searched as it lies in the executable.
fn find<const WIDTH: usize, const ROW: usize>(rows: &[[u8; ROW]], address: [u8; WIDTH]) -> Option<Country> {
    let after = rows.partition_point(|row| row[..WIDTH] <= address[..]);
    let row = rows[..after].last()?;
    let (last, country) = (&row[WIDTH..2 * WIDTH], row[2 * WIDTH]);
    if last < &address[..] {
        return None;
    }
    COUNTRIES.get(usize::from(country)).copied()
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
        let found = |address| find::<1, 3>(&rows, [address]).map(|country| country.to_string());
        assert_eq!(found(9), None);
        assert_eq!(found(10).as_deref(), Some("SG"));
        assert_eq!(found(20).as_deref(), Some("SG"));
        assert_eq!(found(21), None);
        assert_eq!(found(22).as_deref(), Some("PH"));
        assert_eq!(found(23), None);
    }
}
