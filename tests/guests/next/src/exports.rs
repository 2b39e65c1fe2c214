//! The exports and imports.

use crate::Next as Version;

wit_bindgen::generate!({ path: "../../../wit/0.2.0", world: "flusher" });

#[path = "../../../../guest/component/src/exports/glue.rs"]
mod glue;
#[path = "../../../../guest/component/src/exports/v0_2.rs"]
mod v0_2;

struct Component;

export!(Component);
