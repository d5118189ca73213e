//! Makes the table of actions: a row for each action, and the enum that has its arguments.

use std::{borrow::Cow, str::FromStr};

use super::{Action, ActionError, Page, Query, Upload};
use crate::oci::{Algorithm, Digest, Name};

/// The kind of an action, as policies see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads content.
    Pull,
    /// Adds content.
    Push,
    /// Removes content.
    Delete,
    /// Reads names of things.
    List,
    /// Looks at the registry itself.
    Admin,
}

impl Access {
    /// Returns the word for this access in policies and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Admin => "admin",
        }
    }
}

/// The scope that a token needs for an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// No scope: any token will do.
    Any,
    /// `registry:<this>:*`.
    Registry(&'static str),
    /// `repository:<name>:`, with the action's access.
    Repository,
}

/// An action's row of the table.
#[derive(Debug)]
pub struct Row {
    /// The name in policies, records, logs and metrics.
    pub word: &'static str,
    /// The kind of the action.
    pub access: Access,
    /// The scope that a token needs.
    pub scope: Scope,
    /// The methods, as in an `Allow` header.
    pub methods: &'static str,
    /// The path as the reference writes it, with the parameter that the query must have.
    pub path: &'static str,
    /// The end of the path: behind the repository's name, and before the argument.
    pub(super) end: &'static str,
    /// The placeholder behind the last slash, or nothing.
    pub(super) argument: &'static str,
    /// The parameter that the query must have.
    pub(super) parameter: Option<&'static str>,
    pub(super) parse: fn(&RequestLine<'_>) -> Result<Action, ActionError>,
}

impl Row {
    /// Returns true if the action is about a repository.
    #[must_use]
    pub fn is_about_repository(&self) -> bool {
        self.scope == Scope::Repository
    }

    /// Returns the repository's name in a path of this row's shape. `front` is the path without its last part. A slash at
    /// the end of a shape may be missing.
    ///
    /// The code goes from the right: a name has slashes, and may contain the very words behind it
    /// (`a/blobs/uploads/blobs/<digest>`).
    pub(super) fn fit<'a>(&self, path: &'a str, front: &'a str) -> Option<&'a str> {
        let front = if self.argument.is_empty() { path } else { front };
        let front = front.strip_suffix(self.end).or_else(|| front.strip_suffix(self.end.strip_suffix('/')?))?;
        if self.is_about_repository() { front.strip_prefix("/v2/") } else { front.is_empty().then_some("") }
    }

    pub(super) fn has_shape_of(&self, other: &Self) -> bool {
        (self.end, self.argument) == (other.end, other.argument)
    }

    pub(super) fn has_method(&self, method: &str) -> bool {
        self.methods.split(", ").any(|has| has == method)
    }
}

/// The parts of a request that an action is made of.
pub(super) struct RequestLine<'a> {
    pub(super) name: &'a str,
    pub(super) argument: &'a str,
    pub(super) query: Query<'a>,
    pub(super) is_head: bool,
}

impl RequestLine<'_> {
    pub(super) fn name(&self) -> Result<Name, ActionError> {
        self.name.parse().map_err(|error| ActionError::from(error).about(self.name))
    }

    pub(super) fn argument<T: FromStr>(&self) -> Result<T, ActionError>
    where
        ActionError: From<T::Err>,
    {
        self.argument.parse().map_err(|error| ActionError::from(error).about(self.argument))
    }

    pub(super) fn page<T: FromStr>(&self) -> Result<Page<T>, ActionError>
    where
        ActionError: From<T::Err>,
    {
        self.query.page(|last| Ok(last.parse()?))
    }

    /// Returns a page of names. Clients may begin after any text.
    pub(super) fn page_of_names(&self) -> Result<Page<String>, ActionError> {
        self.query.page(|last| Ok(last.to_owned()))
    }

    pub(super) fn page_of_ordinals(&self) -> Result<Page<u64>, ActionError> {
        let rule = "it is an ordinal of the history, written in decimal digits";
        self.query.page(|last| last.parse().map_err(|_| ActionError::Query { name: "last", rule }))
    }

    pub(super) fn upload(&self) -> Result<Upload, ActionError> {
        let state = self.query.get("state")?.and_then(|state| state.parse().ok());
        Ok(Upload { id: self.argument.parse()?, state })
    }

    /// Returns a parameter that may be absent.
    pub(super) fn optional<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, ActionError>
    where
        ActionError: From<T::Err>,
    {
        let parse = |value: Cow<'_, str>| value.parse().map_err(|error| ActionError::from(error).about(&value));
        self.query.get(name)?.map(parse).transpose()
    }

    /// Returns the digest in a parameter that has to be there.
    pub(super) fn digest(&self, name: &'static str) -> Result<Digest, ActionError> {
        let rule = "the final PUT names the whole blob's digest";
        self.optional(name)?.ok_or(ActionError::Query { name, rule })
    }

    /// Returns the source of a mount. An empty parameter names none.
    pub(super) fn from(&self) -> Result<Option<Name>, ActionError> {
        let from = self.query.get("from")?.filter(|from| !from.is_empty());
        Ok(from.map(|from| from.parse()).transpose()?)
    }

    /// Returns the algorithm that an upload is hashed with while it arrives.
    pub(super) fn algorithm(&self) -> Result<Algorithm, ActionError> {
        Ok(match (self.optional("digest-algorithm")?, self.optional::<Digest>("digest")?) {
            (Some(algorithm), _) => algorithm,
            (None, Some(digest)) => digest.algorithm(),
            (None, None) => Algorithm::Sha256,
        })
    }
}

/// Declares `Action`, its table `ACTIONS`, and `Action::row`, from rows.
macro_rules! actions {
    (
        |$line:ident|
        registry {$(
            $r_word:literal $r_access:ident $r_scope:expr, $r_methods:literal $r_path:literal
                => $r_action:ident $({ $($r_field:ident: $r_type:ty = $r_value:expr),* })?;
        )*}
        repository {$(
            $word:literal $access:ident $methods:literal $end:literal $argument:literal $(? $parameter:literal)?
                => $action:ident { $($field:ident: $type:ty = $value:expr),* };
        )*}
    ) => {
        /// One operation of the API, with its arguments.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the specification's names say it")]
        pub enum Action {
            $($r_action $({ $($r_field: $r_type),* })?,)*
            $($action { name: Name, $($field: $type),* },)*
        }

        /// The table of all actions.
        pub static ACTIONS: &[Row] = &[
            $(Row {
                word: $r_word,
                access: Access::$r_access,
                scope: $r_scope,
                methods: $r_methods,
                path: $r_path,
                end: $r_path,
                argument: "",
                parameter: None,
                parse: |$line| {
                    let _ = $line;
                    Ok(Action::$r_action $({ $($r_field: $r_value),* })?)
                },
            },)*
            $(Row {
                word: $word,
                access: Access::$access,
                scope: Scope::Repository,
                methods: $methods,
                path: concat!("/v2/<name>", $end, $argument $(, "?", $parameter, "=")?),
                end: $end,
                argument: $argument,
                parameter: [$(Some($parameter),)? None][0],
                parse: |$line| Ok(Action::$action { name: $line.name()?, $($field: $value),* }),
            },)*
        ];

        impl Action {
            /// Makes the action one about another repository.
            pub fn set_name(&mut self, to: Name) {
                match self {
                    $(Self::$r_action { .. } => {})*
                    $(Self::$action { name, .. } => *name = to,)*
                }
            }

            /// Returns the action's row of the table.
            #[must_use]
            pub const fn row(&self) -> &'static Row {
                enum Index {
                    $($r_action,)*
                    $($action,)*
                }
                &ACTIONS[match self {
                    $(Self::$r_action { .. } => Index::$r_action,)*
                    $(Self::$action { .. } => Index::$action,)*
                } as usize]
            }
        }
    };
}
pub(super) use actions;
