//! The bridge from a rule developer's [`CartRules`] to the component that the edge runs.
//!
//! A rules crate is a `cdylib` with one type and one line:
//!
//! ```ignore
//! struct MyRules;
//! impl cart_core::CartRules for MyRules { /* override what differs */ }
//! cart_guest::export_rules!(MyRules);
//! ```
//!
//! There is no logic here, only the conversion between the records of `wit/cart.wit` and `cart-core`.

mod convert;
#[cfg(target_arch = "wasm32")]
mod memory;

/// The generated bindings of `wit/cart.wit`.
#[allow(missing_docs, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "cart-rules",
        pub_export_macro: true,
        default_bindings_module: "cart_guest::bindings",
        export_macro_name: "export_world",
    });
}

use bindings::exports::troli::cart::rules as wit;
use cart_core::CartRules;

/// Writes a line to the host's log of this call; the host keeps the first 1 KiB.
pub fn log(message: &str) {
    bindings::log(message);
}

/// Carries the calls of the host to some rules. Used by [`export_rules!`].
pub struct Adapter<R>(core::marker::PhantomData<R>);

impl<R: CartRules + Default + 'static> wit::Guest for Adapter<R> {
    fn apply(
        cart: wit::Cart,
        command: wit::Command,
        context: wit::Context,
    ) -> Result<wit::Applied, wit::Rejection> {
        let answer = R::default().apply(cart.into(), &command.into(), &context.into());
        answer.map(Into::into).map_err(Into::into)
    }

    fn quote(cart: wit::Cart, context: wit::Context) -> wit::CartQuote {
        R::default().quote(&cart.into(), &context.into()).into()
    }

    fn checkout(cart: wit::Cart, context: wit::Context) -> Result<wit::CartQuote, Vec<wit::Rejection>> {
        let answer = R::default().checkout(&cart.into(), &context.into());
        answer.map(Into::into).map_err(|reasons| reasons.into_iter().map(Into::into).collect())
    }

    fn describe() -> wit::Manifest {
        R::default().describe().into()
    }
}

/// Makes a component of a type that implements `cart_core::CartRules` and `Default`.
#[macro_export]
macro_rules! export_rules {
    ($rules:ty) => {
        type ExportedRules = $crate::Adapter<$rules>;
        $crate::bindings::export_world!(ExportedRules with_types_in $crate::bindings);
    };
}
