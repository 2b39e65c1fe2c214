//! The exports and imports.

use tidegate_flusher::Flusher as Version;

wit_bindgen::generate!({ path: "../../wit/0.2.0", world: "flusher" });

mod glue;
mod v0_2;

struct Component;

export!(Component);
