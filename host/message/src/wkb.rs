//! The value of a geometry: well-known binary, of OGC and of ISO, also with the flags of PostGIS.

/// Deepest nesting of collections.
const DEPTH_MAX: usize = 32;
/// Flags of PostGIS in a geometry's type: with heights, with measures, with a spatial reference.
const FLAG_Z: u32 = 0x8000_0000;
const FLAG_M: u32 = 0x4000_0000;
const FLAG_SRID: u32 = 0x2000_0000;

/// Checks that a value is one geometry and nothing else: known types, every count within the bytes.
///
/// # Errors
/// Says what is wrong, and at which byte.
pub fn check_wkb(bytes: &[u8]) -> Result<(), String> {
    let mut walk = Walk { bytes, at: 0 };
    walk.geometry(0)?;
    match bytes.len() - walk.at {
        0 => Ok(()),
        more => Err(format!("a geometry of {} bytes with {more} bytes behind it", walk.at)),
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    fn geometry(&mut self, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("a geometry nested more than {DEPTH_MAX} deep"));
        }
        let at = self.at;
        let is_little = match self.bytes.get(at) {
            Some(0) => false,
            Some(1) => true,
            Some(order) => return Err(format!("no geometry: byte {at} is {order}, not a byte order")),
            None => return Err(format!("a geometry that ends at byte {at}")),
        };
        self.at += 1;
        let code = self.number(is_little)?;
        let plain = code & !(FLAG_Z | FLAG_M | FLAG_SRID);
        if code & FLAG_SRID != 0 {
            self.number(is_little)?;
        }
        // ISO counts 1000 for heights, 2000 for measures, 3000 for both.
        let (kind, iso) = (plain % 1000, plain / 1000);
        let numbers = 2 + usize::from(code & FLAG_Z != 0 || iso & 1 == 1) + usize::from(code & FLAG_M != 0 || iso & 2 == 2);
        match kind {
            _ if iso > 3 => Err(format!("no geometry: type {code} at byte {at}")),
            1 => self.skip(1, 8 * numbers),
            2 => self.list(is_little, |walk| walk.skip(1, 8 * numbers)),
            3 => self.list(is_little, |walk| {
                let points = walk.number(is_little)?;
                walk.skip(points as usize, 8 * numbers)
            }),
            4..=7 => self.list(is_little, |walk| walk.geometry(depth + 1)),
            _ => Err(format!("no geometry: type {code} at byte {at}")),
        }
    }

    fn list(&mut self, is_little: bool, mut item: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        (0..self.number(is_little)?).try_for_each(|_| item(self))
    }

    fn number(&mut self, is_little: bool) -> Result<u32, String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(number) = rest.first_chunk() else { return Err(format!("a geometry that ends at byte {}", self.bytes.len())) };
        self.at += number.len();
        Ok(if is_little { u32::from_le_bytes(*number) } else { u32::from_be_bytes(*number) })
    }

    fn skip(&mut self, items: usize, item_bytes: usize) -> Result<(), String> {
        let end = items.checked_mul(item_bytes).and_then(|bytes| self.at.checked_add(bytes));
        match end.filter(|&end| end <= self.bytes.len()) {
            Some(end) => {
                self.at = end;
                Ok(())
            }
            None => Err(format!("a geometry with {items} points at byte {}, past its {} bytes", self.at, self.bytes.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(code: u32, rest: &[u8]) -> Vec<u8> {
        [&[1][..], &code.to_le_bytes(), rest].concat()
    }

    #[test]
    fn geometries_of_every_kind_are_taken() {
        let one = 1u32.to_le_bytes();
        let point = geometry(1, &[0; 16]);
        let polygon = geometry(3, &[&one[..], &2u32.to_le_bytes(), &[0; 32]].concat());
        let point_of_postgis = geometry(1 | FLAG_Z | FLAG_SRID, &[&4326u32.to_le_bytes()[..], &[0; 24]].concat());
        let big_endian = [&[0, 0, 0, 0, 1][..], &[0; 16]].concat();
        let collection = geometry(7, &[&2u32.to_le_bytes()[..], &point, &polygon].concat());
        for bytes in [
            point.clone(),
            geometry(2, &[&2u32.to_le_bytes()[..], &[0; 32]].concat()),
            polygon,
            geometry(4, &[&one[..], &point].concat()),
            geometry(3001, &[0; 32]),
            point_of_postgis,
            big_endian,
            collection,
            geometry(7, &[0; 4]),
        ] {
            assert_eq!(check_wkb(&bytes), Ok(()), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_geometry_is_refused_with_its_place() {
        let nested = (0..40).fold(geometry(1, &[0; 16]), |inner, _| geometry(7, &[&1u32.to_le_bytes()[..], &inner].concat()));
        for (bytes, expected) in [
            (vec![], "ends at byte 0"),
            (b"POINT (1 2)".to_vec(), "byte 0 is 80, not a byte order"),
            (geometry(1, &[0; 15]), "1 points at byte 5, past its 20 bytes"),
            (geometry(1, &[0; 17]), "a geometry of 21 bytes with 1 bytes behind it"),
            (geometry(8, &[]), "type 8 at byte 0"),
            (geometry(4001, &[0; 64]), "type 4001"),
            (geometry(3, &[&1u32.to_le_bytes()[..], &[0xff; 4]].concat()), "4294967295 points"),
            (geometry(4, &[0xff; 4]), "ends at byte 9"),
            (nested, "nested more than 32 deep"),
        ] {
            let problem = check_wkb(&bytes).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
