use super::COMPONENT_BYTES_MAX;

/// Why a call of the rules gave no answer. The rules are at fault in all but [`Busy`](Self::Busy); a rejection
/// is an answer and not one of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// The instruction budget is used up.
    #[error("the rules used up their instruction budget: look for a loop that grows faster than the cart")]
    OutOfFuel,
    /// The wall clock ran out before the instruction budget did.
    #[error("the rules ran for too long")]
    TimedOut,
    /// More memory than rules may have.
    #[error("the rules asked for more memory than they may have")]
    OutOfMemory,
    /// The rules panicked or broke off in another way.
    #[error("the rules broke off: {detail}")]
    Trapped {
        /// What the machine says, and the end of what the rules logged.
        detail: String,
    },
    /// An answer that cannot be right.
    #[error("the rules gave an answer that cannot be right: {detail}")]
    InvalidOutput {
        /// Which check failed.
        detail: String,
    },
    /// As many calls run as may run at once. Not the rules' fault.
    #[error("too many calls of the rules at once: try again")]
    Busy,
}

impl RulesError {
    /// The stable code, lower snake case.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OutOfFuel => "rules_out_of_fuel",
            Self::TimedOut => "rules_timed_out",
            Self::OutOfMemory => "rules_out_of_memory",
            Self::Trapped { .. } => "rules_trapped",
            Self::InvalidOutput { .. } => "rules_invalid_output",
            Self::Busy => "rules_busy",
        }
    }
}

/// Why a component is not taken. Each text says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
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
    /// Something else than a component.
    #[error("not a WebAssembly component, but {found}")]
    NotAComponent {
        /// What it seems to be, and what to do.
        found: &'static str,
    },
    /// Broken, or made of features that rules do not need.
    #[error("the component does not compile here: {detail}")]
    Compile {
        /// What the compiler says.
        detail: String,
    },
    /// Rules may call `log` and nothing else.
    #[error(
        "the component imports {name}, and rules may import only log: build for wasm32-unknown-unknown, and \
         drop the dependency that wants it"
    )]
    ForbiddenImport {
        /// The import.
        name: String,
    },
    /// Not the exports of `troli:cart@1.1.0` or `troli:cart@1.0.0`.
    #[error(
        "the component is not one of the world troli:cart/cart-rules@1.1.0 or 1.0.0: {detail}; build it against \
         this repository's wit/cart.wit"
    )]
    WrongWorld {
        /// What is missing or different.
        detail: String,
    },
    /// It does not say who it is.
    #[error("the manifest that describe() returns is wrong: {detail}")]
    Manifest {
        /// Which part, and what it should be.
        detail: String,
    },
    /// One of the built-in carts was not answered rightly.
    #[error("the self-check failed on {case}")]
    SelfCheck {
        /// Which cart.
        case: &'static str,
        /// What happened.
        source: RulesError,
    },
    /// What is shown and what is charged differ.
    #[error(
        "the self-check was quoted {quoted} and charged {charged} for {case}: checkout charges what quote says, so \
         call cart_core::checkout(cart, context, self.quote(cart, context)), and not the checkout or the quote of \
         other rules"
    )]
    QuoteDiffers {
        /// Which cart.
        case: &'static str,
        /// The total by `quote`.
        quoted: String,
        /// The total by `checkout`.
        charged: String,
    },
    /// One input, two answers.
    #[error(
        "the self-check gave two different answers to {case}: rules are a function of their arguments, so do \
         not use addresses or hash maps with random order"
    )]
    NotRepeatable {
        /// Which cart.
        case: &'static str,
    },
}

impl LoadError {
    /// The stable code, lower snake case.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "component_too_large",
            Self::NotAComponent { .. } => "not_a_component",
            Self::Compile { .. } => "component_not_compiled",
            Self::ForbiddenImport { .. } => "forbidden_import",
            Self::WrongWorld { .. } => "wrong_world",
            Self::Manifest { .. } => "manifest_invalid",
            Self::SelfCheck { .. } => "self_check_failed",
            Self::QuoteDiffers { .. } => "self_check_quote_differs",
            Self::NotRepeatable { .. } => "self_check_not_repeatable",
        }
    }

    /// The whole reason in one text, for those who see no chain of sources.
    pub fn explain(&self) -> String {
        match self {
            Self::SelfCheck { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

/// Why there is no engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The directory for compiled code.
    #[error("cannot use the directory for compiled rules: {detail}")]
    Cache {
        /// What the system says.
        detail: String,
    },
    /// The machine does not offer what the engine needs, mostly address space.
    #[error("cannot start the rules engine: {detail}")]
    Engine {
        /// What the engine says.
        detail: String,
    },
}
