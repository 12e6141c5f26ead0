//! The worlds of cart rules that a component may be of. Everything outside speaks the types of `cart-core`.

use cart_core::{Applied, Cart, Command, Context, Manifest, Quote, Rejection};
use wasmtime::component::InstancePre as LinkedComponent;
use wasmtime::component::types;
use wasmtime::{AsContextMut, Engine, Result};

pub(super) mod v1_0;
mod v1_1;

/// The one function that a component may import.
pub(super) const LOG: &str = "log";

/// The interfaces that a component may export, one of them, the newest first.
pub(super) const INTERFACES: [&str; 2] = [v1_1::INTERFACE, v1_0::INTERFACE];

/// A version of the world of cart rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum World {
    V1_0,
    V1_1,
}

impl World {
    /// The world of a component, by the exact name of what it exports.
    pub(super) fn of(component: &types::Component, engine: &Engine) -> Option<Self> {
        let exports = |interface: &str| component.exports(engine).any(|(name, _)| name == interface);
        if exports(v1_1::INTERFACE) {
            Some(Self::V1_1)
        } else if exports(v1_0::INTERFACE) {
            Some(Self::V1_0)
        } else {
            None
        }
    }
}

/// A component whose imports are resolved, of one of the worlds.
pub(super) enum InstancePre<T: 'static> {
    V1_0(v1_0::InstancePre<T>),
    V1_1(v1_1::InstancePre<T>),
}

/// An instance for one call.
pub(super) enum Instance {
    V1_0(v1_0::Instance),
    V1_1(v1_1::Instance),
}

impl<T: 'static> InstancePre<T> {
    pub(super) fn new(world: World, component: LinkedComponent<T>) -> Result<Self> {
        Ok(match world {
            World::V1_0 => Self::V1_0(v1_0::InstancePre::new(component)?),
            World::V1_1 => Self::V1_1(v1_1::InstancePre::new(component)?),
        })
    }

    pub(super) const fn world(&self) -> World {
        match self {
            Self::V1_0(_) => World::V1_0,
            Self::V1_1(_) => World::V1_1,
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        match self {
            Self::V1_0(linked) => linked.engine(),
            Self::V1_1(linked) => linked.engine(),
        }
    }

    pub(super) fn instantiate(&self, store: impl AsContextMut<Data = T>) -> Result<Instance> {
        Ok(match self {
            Self::V1_0(linked) => Instance::V1_0(linked.instantiate(store)?),
            Self::V1_1(linked) => Instance::V1_1(linked.instantiate(store)?),
        })
    }
}

impl<T: 'static> Clone for InstancePre<T> {
    fn clone(&self) -> Self {
        match self {
            Self::V1_0(linked) => Self::V1_0(linked.clone()),
            Self::V1_1(linked) => Self::V1_1(linked.clone()),
        }
    }
}

impl Instance {
    pub(super) fn describe(&self, store: impl AsContextMut) -> Result<Manifest> {
        match self {
            Self::V1_0(instance) => v1_0::describe(store, instance),
            Self::V1_1(instance) => v1_1::describe(store, instance),
        }
    }

    pub(super) fn apply(
        &self,
        store: impl AsContextMut,
        cart: &Cart,
        command: &Command,
        context: &Context,
    ) -> Result<Result<Applied, Rejection>> {
        match self {
            Self::V1_0(instance) => v1_0::apply(store, instance, cart, command, context),
            Self::V1_1(instance) => v1_1::apply(store, instance, cart, command, context),
        }
    }

    pub(super) fn quote(&self, store: impl AsContextMut, cart: &Cart, context: &Context) -> Result<Quote> {
        match self {
            Self::V1_0(instance) => v1_0::quote(store, instance, cart, context),
            Self::V1_1(instance) => v1_1::quote(store, instance, cart, context),
        }
    }

    pub(super) fn checkout(
        &self,
        store: impl AsContextMut,
        cart: &Cart,
        context: &Context,
    ) -> Result<Result<Quote, Vec<Rejection>>> {
        match self {
            Self::V1_0(instance) => v1_0::checkout(store, instance, cart, context),
            Self::V1_1(instance) => v1_1::checkout(store, instance, cart, context),
        }
    }
}
