//! What a component says of itself, and whether that fits: read before anything is compiled.

use serde::Serialize;
use wasmparser::component_types::ComponentEntityType;
use wasmparser::{Encoding, Parser, Payload, ValidPayload, Validator, WasmFeatures};

use super::contract::{LOGIC, served};
use super::{ALLOWED_IMPORTS, Contract, EngineError, hex_digest};

/// Prefix of our interfaces' names.
const PACKAGE: &str = "tidegate:flusher/";

/// A component, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspected {
    /// SHA-256 of the file, in hexadecimal.
    pub digest: String,
    /// Bytes of the file.
    pub bytes: usize,
    /// The version of the contract that it is made for; `None` if it names none.
    pub contract: Option<String>,
    /// What it wants.
    pub imports: Vec<Interface>,
    /// What it gives.
    pub exports: Vec<Interface>,
}

/// Something that a component imports or exports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name, with the version.
    pub name: String,
    /// The functions, if it is an interface.
    pub functions: Vec<String>,
}

impl Interface {
    /// Returns the name and the version.
    fn parts(&self) -> (&str, Option<&str>) {
        self.name.split_once('@').map_or((&self.name, None), |(name, version)| (name, Some(version)))
    }
}

/// Reads what a component says of itself. It is not compiled, and its code is not looked at.
///
/// # Errors
/// [`EngineError::CoreModule`] and [`EngineError::NotAComponent`] when the bytes are not a component.
pub fn inspect(bytes: &[u8]) -> Result<Inspected, EngineError> {
    if Parser::is_core_wasm(bytes) {
        return Err(EngineError::CoreModule);
    }
    let broken = |e: wasmparser::BinaryReaderError| EngineError::NotAComponent(e.to_string());
    let mut validator = Validator::new_with_features(WasmFeatures::default());
    let (mut imported, mut exported, mut depth, mut types) = (Vec::new(), Vec::new(), 0_usize, None);
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(broken)?;
        match &payload {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Err(EngineError::CoreModule),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section.clone() {
                    imported.push(import.map_err(broken)?.name.0.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section.clone() {
                    exported.push(export.map_err(broken)?.name.0.to_owned());
                }
            }
            _ => {}
        }
        // The outermost component ends last.
        if let ValidPayload::End(all) = validator.payload(&payload).map_err(broken)? {
            types = Some(all);
        }
    }
    let types = types.ok_or_else(|| EngineError::NotAComponent("it has no end".into()))?;
    let functions = |entity: Option<ComponentEntityType>| match entity {
        Some(ComponentEntityType::Instance(id)) => {
            let is_function = |(_, of): &(&String, &ComponentEntityType)| matches!(of, ComponentEntityType::Func(_));
            types[id].exports.iter().filter(is_function).map(|(name, _)| name.clone()).collect()
        }
        _ => Vec::new(),
    };
    let import = |name: String| Interface { functions: functions(types.component_entity_type_of_import(&name)), name };
    let export = |name: String| Interface { functions: functions(types.component_entity_type_of_export(&name)), name };
    let imports: Vec<Interface> = imported.into_iter().map(import).collect();
    let exports: Vec<Interface> = exported.into_iter().map(export).collect();
    let ours = exports.iter().filter(|e| e.parts().0 == LOGIC).chain(imports.iter().filter(|i| i.name.starts_with(PACKAGE)));
    let contract = ours.filter_map(|i| i.parts().1).next().map(str::to_owned);
    Ok(Inspected { digest: hex_digest(bytes), bytes: bytes.len(), contract, imports, exports })
}

impl Inspected {
    /// Judges it, in both directions: what it wants must be there, and what is wanted of it. The types of functions are judged when it is
    /// linked.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn judge(&self) -> Result<Contract, EngineError> {
        let allowed = |i: &&Interface| ALLOWED_IMPORTS.iter().any(|allowed| i.name.starts_with(allowed));
        if let Some(foreign) = self.imports.iter().find(|i| !allowed(i)) {
            return Err(EngineError::ForeignImport(foreign.name.clone()));
        }
        let Some(version) = &self.contract else {
            return Err(EngineError::MissingExport { missing: format!("the interface {LOGIC}"), contract: served() });
        };
        let contract = Contract::of_version(version).ok_or_else(|| EngineError::Unserved { version: version.clone(), served: served() })?;
        for import in self.imports.iter().filter(|i| i.name.starts_with(PACKAGE)) {
            self.judge_import(contract, import)?;
        }
        let name = format!("{LOGIC}@{contract}");
        let missing = |missing| EngineError::MissingExport { missing, contract: contract.version().to_owned() };
        let logic = self.exports.iter().find(|e| e.name == name).ok_or_else(|| missing(format!("the interface {name}")))?;
        match contract.exports().iter().find(|wanted| !logic.functions.iter().any(|f| f == *wanted)) {
            Some(function) => Err(missing(format!("the function `{function}` of {name}"))),
            None => Ok(contract),
        }
    }

    fn judge_import(&self, contract: Contract, import: &Interface) -> Result<(), EngineError> {
        let unknown = |what: String| EngineError::UnknownImport { what, contract };
        let (name, version) = import.parts();
        let interface = contract.imports().iter().find(|(known, _)| name.strip_prefix(PACKAGE) == Some(known));
        let interface = interface.filter(|_| version == Some(contract.version()));
        let (_, known) = interface.ok_or_else(|| unknown(format!("the interface {}", import.name)))?;
        match import.functions.iter().find(|f| !known.contains(&f.as_str())) {
            Some(function) => Err(unknown(format!("the function `{function}` of {}", import.name))),
            None => Ok(()),
        }
    }
}
