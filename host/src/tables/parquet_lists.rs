//! Arrays and dense vectors, from Arrow to ours.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int8Type};
use arrow_array::{Array, ArrayRef, ListArray};
use arrow_schema::DataType as ArrowType;
use tidegate_message::array::{Elements, check_array};
use tidegate_message::columns::DataType;

use super::parquet_values::{Place, doubles, integers};

/// Calls `push` with every array as segment files have it.
pub(super) fn push_arrays(place: &Place, lists: &ListArray, mut push: impl FnMut(&[u8])) -> Result<(), String> {
    for row in 0..lists.len() {
        let list = lists.value(row);
        if list.null_count() > 0 {
            return Err(place.says(row, "an element of the list is null"));
        }
        let array = elements(place, row, &list)?.encode();
        check_array(place.field, &array).map_err(|problem| place.says(row, &problem))?;
        push(&array);
    }
    Ok(())
}

fn elements(place: &Place, row: usize, list: &ArrayRef) -> Result<Elements, String> {
    Ok(match place.field.element_type.unwrap_or(place.field.data_type) {
        DataType::Bool => Elements::Bools(list.as_boolean().values().iter().collect()),
        DataType::Int64 => Elements::Longs(whole(place, row, list)?),
        DataType::Float => Elements::Floats(list.as_primitive::<Float32Type>().values().to_vec()),
        DataType::Double => Elements::Doubles(doubles(list)),
        DataType::VarChar | DataType::String => {
            Elements::Texts(list.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_owned()).collect())
        }
        _ => Elements::Ints(whole(place, row, list)?),
    })
}

fn whole<T: TryFrom<i128>>(place: &Place, row: usize, list: &ArrayRef) -> Result<Vec<T>, String> {
    let convert = |value| T::try_from(value).map_err(|_| place.says(row, &format!("an element of the list is {value}")));
    integers(list).into_iter().map(convert).collect()
}

/// Appends dense vectors, back to back.
pub(super) fn push_vectors(place: &Place, array: &ArrayRef, to: &mut Vec<u8>) -> Result<(), String> {
    match array.data_type() {
        ArrowType::List(_) => push_lists(place, array.as_list(), to),
        ArrowType::FixedSizeBinary(_) => {
            array.as_fixed_size_binary().iter().for_each(|vector| to.extend_from_slice(vector.unwrap_or_default()));
            Ok(())
        }
        _ => {
            for (row, vector) in array.as_binary::<i32>().iter().map(Option::unwrap_or_default).enumerate() {
                if vector.len() != place.field.width() {
                    return Err(place.says(row, &format!("the vector has {} bytes", vector.len())));
                }
                to.extend_from_slice(vector);
            }
            Ok(())
        }
    }
}

fn push_lists(place: &Place, lists: &ListArray, to: &mut Vec<u8>) -> Result<(), String> {
    for row in 0..lists.len() {
        let list = lists.value(row);
        if list.len() != place.field.dim {
            let what = if place.field.data_type == DataType::FloatVector { "floats" } else { "integers" };
            return Err(place.says(row, &format!("the vector has {} {what}", list.len())));
        }
        if list.null_count() > 0 {
            return Err(place.says(row, "an element of the vector is null"));
        }
        if place.field.data_type == DataType::FloatVector {
            list.as_primitive::<Float32Type>().values().iter().for_each(|v| to.extend_from_slice(&v.to_le_bytes()));
        } else {
            to.extend(list.as_primitive::<Int8Type>().values().iter().map(|v| v.cast_unsigned()));
        }
    }
    Ok(())
}
