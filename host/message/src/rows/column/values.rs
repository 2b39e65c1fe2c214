//! The values of a column: into their ranges, and into the columns of a segment.

use super::{Array, Column};
use crate::array::check_array;
use crate::columns::{DataType, FieldColumn, Values};
use crate::rows::{RowsError, label};
use crate::schema::Field;
use crate::sparse::check_sparse;
use crate::wkb::check_wkb;

impl Column {
    /// Checks every value against its field's range.
    pub(in crate::rows) fn check_range(&self, field: &Field) -> Result<(), RowsError> {
        match field.data_type {
            DataType::Int8 => self.narrow(|_: i8| {}),
            DataType::Int16 => self.narrow(|_: i16| {}),
            DataType::VarChar => self.each(|text| match text.len() {
                length if length > field.max_length => Err(format!("{length} bytes, more than max_length {}", field.max_length)),
                _ => Ok(()),
            }),
            DataType::Array => self.each(|array| check_array(field, array)),
            DataType::Geometry => self.each(check_wkb),
            DataType::SparseFloatVector => self.each(check_sparse),
            _ => Ok(()),
        }
    }

    /// Calls `check` with every value of variable length, those of nulls left out.
    fn each(&self, check: impl Fn(&[u8]) -> Result<(), String>) -> Result<(), RowsError> {
        let mut valid = Vec::new();
        if self.is_full && self.nulls > 0 {
            self.valid.integers(|flag| {
                valid.push(flag != 0);
                Ok(())
            })?;
        }
        let mut at = 0;
        self.values.texts(|value| {
            if valid.get(at).copied().unwrap_or(true) {
                check(value).map_err(|reason| self.value_error(at, reason))?;
            }
            at += 1;
            Ok(())
        })
    }

    /// Calls `f` with every 32-bit integer of the column as the narrower type of its field.
    fn narrow<T: TryFrom<i32>>(&self, mut f: impl FnMut(T)) -> Result<(), RowsError> {
        let mut at = 0;
        self.values.integers(|value| {
            let value = value as i32;
            let narrow = T::try_from(value)
                .map_err(|_| self.value_error(at, format!("{value} is out of the range of {} bits", 8 * size_of::<T>())))?;
            f(narrow);
            at += 1;
            Ok(())
        })
    }

    /// Appends all rows; a null becomes the field's default value, or is one.
    pub(in crate::rows) fn append_to(&self, rows: usize, field: &Field, out: &mut FieldColumn) -> Result<(), RowsError> {
        if self.nulls == 0 {
            self.append_values(rows, out)?;
            out.valid.iter_mut().for_each(|valid| valid.resize(valid.len() + rows, true));
            return Ok(());
        }
        let mut read = FieldColumn::new(field);
        if self.nulls < rows {
            self.append_values(rows, &mut read)?;
        }
        let (mut row, mut next) = (0, 0);
        self.valid.integers(|valid| {
            if valid == 0 {
                out.push_absent(field, 1);
            } else {
                out.values.push_row(&read.values, if self.is_full { row } else { next });
                out.valid.iter_mut().for_each(|valid| valid.push(true));
                next += 1;
            }
            row += 1;
            Ok(())
        })
    }

    fn append_values(&self, rows: usize, out: &mut FieldColumn) -> Result<(), RowsError> {
        match (self.array, &mut out.values) {
            (Array::Bools, Values::Bool(out)) => {
                out.reserve(rows);
                self.values.integers(|value| {
                    out.push(value != 0);
                    Ok(())
                })
            }
            (Array::Ints, Values::Int8(out)) => self.narrow(|value| out.push(value)),
            (Array::Ints, Values::Int16(out)) => self.narrow(|value| out.push(value)),
            (Array::Ints, Values::Int32(out)) => self.narrow(|value| out.push(value)),
            (Array::Longs | Array::Timestamps, Values::Int64(out)) => {
                out.reserve(rows);
                self.values.integers(|value| {
                    out.push(value as i64);
                    Ok(())
                })
            }
            (Array::Floats, Values::Float(out)) => self.values.fixed_runs(4, |run| {
                out.extend(run.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)));
                Ok(())
            }),
            (Array::Doubles, Values::Double(out)) => self.values.fixed_runs(8, |run| {
                out.extend(run.as_chunks().0.iter().map(|&value| f64::from_le_bytes(value)));
                Ok(())
            }),
            (Array::Texts | Array::Arrays | Array::Jsons | Array::Geometries | Array::SparseVectors, Values::Bytes { ends, bytes }) => {
                ends.reserve(rows);
                self.values.texts(|value| {
                    bytes.extend_from_slice(value);
                    ends.push(bytes.len());
                    Ok(())
                })
            }
            (Array::FloatVectors, Values::Fixed { width, bytes }) if Some(*width) == self.array.width(self.dim) => {
                self.values.fixed_runs(4, |run| {
                    bytes.extend_from_slice(run);
                    Ok(())
                })
            }
            (array, Values::Fixed { width, bytes }) if Some(*width) == array.width(self.dim) => self.values.texts(|vectors| {
                bytes.extend_from_slice(vectors);
                Ok(())
            }),
            _ => Err(self.error(&format!("is appended to a column of {:?}, field {}", out.data_type, label(&out.name, out.field_id)))),
        }
    }
}
