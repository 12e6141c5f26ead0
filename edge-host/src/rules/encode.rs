use wit_component::ComponentEncoder;

use super::COMPONENT_BYTES_MAX;

/// Why a core module does not become a component.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Not a core module, or one without the description of its world.
    #[error(
        "not a core module of cart rules: {detail}; pass what cargo built of a cdylib crate that calls \
         export_rules!"
    )]
    Module {
        /// What the encoder says.
        detail: String,
    },
    /// A module that calls or exports something else than the world allows.
    #[error("the module does not fit the world of cart rules: {detail}")]
    World {
        /// What the encoder says.
        detail: String,
    },
    /// Beyond [`COMPONENT_BYTES_MAX`].
    #[error(
        "the component has {bytes} bytes, and at most {max} are taken: build it with the guest profile and \
         drop dependencies",
        max = COMPONENT_BYTES_MAX
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// Makes a component of the core module that a compiler wrote for `wasm32-unknown-unknown`.
pub fn encode(core_module: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let component = ComponentEncoder::default()
        // Names are for stack traces, which the host does not take, and would come back as bytes.
        .debug_names(false)
        .validate(true)
        .module(core_module)
        .map_err(|error| EncodeError::Module { detail: format!("{error:#}") })?
        .encode()
        .map_err(|error| EncodeError::World { detail: format!("{error:#}") })?;
    if component.len() > COMPONENT_BYTES_MAX {
        return Err(EncodeError::TooLarge { bytes: component.len() });
    }
    Ok(component)
}
