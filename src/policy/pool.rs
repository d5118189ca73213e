//! Joins the policies that cover a request.
//!
//! The rules of everything that covers a request are one pool: a deny rule that is true denies, otherwise an allow rule
//! that is true allows, otherwise the default stated for the longest prefix decides. The longest prefix that any policy
//! states for a name tells which policies cover the name, so the pool of each prefix is put together once.

use std::{collections::HashMap, sync::Arc};

use super::{
    decision::{Decision, Effect, Origin},
    expression::{Condition, Undecided, Values},
};

/// A compiled rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) origin: Arc<Origin>,
    pub(super) name: Arc<str>,
    pub(super) message: Option<Arc<str>>,
    pub(super) denies: bool,
    pub(super) enforced: bool,
    pub(super) text: String,
    pub(super) condition: Condition,
}

/// The requests that a policy covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// All requests; its default is for those about no repository.
    Everything,
    /// A table of the configuration: names below this prefix, unless a table with a longer one states the same.
    Table(String),
    /// A file: names below any of these prefixes.
    Names(Vec<String>),
}

/// Returns true if a prefix of repository names covers a name: that very name, or one below it; `*` covers all.
fn covers(prefix: &str, name: &str) -> bool {
    prefix == "*" || name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A policy whose rules are compiled.
#[derive(Debug)]
pub(super) struct CompiledPolicy {
    pub(super) origin: Arc<Origin>,
    pub(super) coverage: Coverage,
    pub(super) enforced: bool,
    pub(super) default: Option<bool>,
    pub(super) rules: Vec<Arc<Rule>>,
}

impl CompiledPolicy {
    /// Returns the length of the longest prefix with which it covers a name; `*` has length 0.
    pub(super) fn length(&self, name: &str) -> Option<usize> {
        let length = |prefix: &String| covers(prefix, name).then(|| if prefix == "*" { 0 } else { prefix.len() });
        match &self.coverage {
            Coverage::Everything => None,
            Coverage::Table(prefix) => length(prefix),
            Coverage::Names(prefixes) => prefixes.iter().filter_map(length).max(),
        }
    }
}

/// Rules, and the decision if none of them decides.
#[derive(Debug)]
struct Pool {
    deny: Vec<Arc<Rule>>,
    allow: Vec<Arc<Rule>>,
    default: Decision,
}

/// The rules that decide about requests of the same prefix.
#[derive(Debug)]
pub(super) struct Pools {
    /// The rules of enforced policies.
    enforced: Pool,
    /// The rules of all policies, if some are not enforced.
    whole: Option<Pool>,
    /// The decision about any request, if there are only defaults.
    constant: Option<Decision>,
    /// The policies, for explanations.
    pub(super) policies: Vec<Arc<CompiledPolicy>>,
}

impl Pool {
    /// Joins policies that cover a name, or policies about everything if there is no name.
    fn new(policies: &[Arc<CompiledPolicy>], name: Option<&str>) -> Self {
        let rules = || policies.iter().flat_map(|compiled| &compiled.rules).cloned();
        Self {
            deny: rules().filter(|rule| rule.denies).collect(),
            allow: rules().filter(|rule| !rule.denies).collect(),
            default: default_of(policies, name),
        }
    }

    /// Decides. Every allow rule that can fail is asked, since one that fails denies wherever it stands.
    ///
    /// A rule that waits for the age of the image leaves the decision open, unless the request is denied whatever the age
    /// is. An open decision lets the request go on for now.
    fn decide(&self, values: &Values<'_>, otherwise: bool) -> Decision {
        let by = |rule: &Rule, effect, message| Decision {
            effect,
            by: Some(Arc::clone(&rule.origin)),
            rule: Some(Arc::clone(&rule.name)),
            message,
            default: false,
            tag: None,
            provisional: false,
        };
        let failed = |rule: &Rule, why: &str| {
            by(rule, Effect::Deny, Some(format!("the rule {} failed, and what fails denies: {why}", rule.name).into()))
        };
        let mut is_open = false;
        for rule in &self.deny {
            match rule.condition.holds(values) {
                Ok(false) => {}
                Ok(true) => return by(rule, Effect::Deny, rule.message.clone()),
                Err(Undecided::Awaits) => is_open = true,
                Err(Undecided::Fails(why)) => return failed(rule, why),
            }
        }
        let (mut allowing, mut may_allow): (Option<&Arc<Rule>>, Option<&Arc<Rule>>) = (None, None);
        for rule in &self.allow {
            if allowing.is_some() && !rule.condition.is_fallible() {
                continue;
            }
            match rule.condition.holds(values) {
                Ok(holds) => allowing = allowing.or(holds.then_some(rule)),
                Err(Undecided::Awaits) => may_allow = may_allow.or(Some(rule)),
                Err(Undecided::Fails(why)) => return failed(rule, why),
            }
        }
        is_open |= may_allow.is_some();
        let decision = match allowing {
            Some(rule) => by(rule, Effect::Allow, rule.message.clone()),
            None if otherwise => Decision::by_default(true, None),
            None if self.default.allows() => self.default.clone(),
            None => match may_allow {
                Some(rule) => by(rule, Effect::Allow, rule.message.clone()),
                None => self.default.clone(),
            },
        };
        let provisional = is_open && decision.allows();
        Decision { provisional, ..decision }
    }

    fn has_rules(&self) -> bool {
        !self.deny.is_empty() || !self.allow.is_empty()
    }
}

/// Returns the default stated for the longest prefix. Denies if two of one length disagree, or none is stated.
fn default_of(policies: &[Arc<CompiledPolicy>], name: Option<&str>) -> Decision {
    let stated = policies.iter().filter_map(|compiled| {
        let length = match name {
            None => 0,
            Some(name) => compiled.length(name)?,
        };
        compiled.default.map(|allow| (length, allow, &compiled.origin))
    });
    let stated: Vec<_> = stated.collect();
    let longest = stated.iter().map(|(length, ..)| *length).max();
    let mut of_longest = stated.iter().filter(|(length, ..)| Some(*length) == longest);
    // Of defaults that disagree, the one that denies counts.
    let denying = of_longest.clone().find(|(_, allow, _)| !allow);
    match denying.or_else(|| of_longest.next()) {
        Some((_, allow, origin)) => Decision::by_default(*allow, Some(Arc::clone(origin))),
        None => Decision::by_default(false, None),
    }
}

impl Pools {
    fn new(policies: Vec<Arc<CompiledPolicy>>, name: Option<&str>) -> Self {
        let enforced: Vec<Arc<CompiledPolicy>> =
            policies.iter().filter(|compiled| compiled.enforced).cloned().collect();
        let whole = (enforced.len() < policies.len()).then(|| Pool::new(&policies, name));
        let enforced = Pool::new(&enforced, name);
        let has_rules = enforced.has_rules() || whole.as_ref().is_some_and(Pool::has_rules);
        let constant =
            (!has_rules).then(|| both(enforced.default.clone(), || whole.as_ref().map(|whole| whole.default.clone())));
        Self { enforced, whole, constant, policies }
    }

    /// Returns the decision about any request, if there is one. `otherwise`: an action is allowed if no rule decides.
    pub(super) fn constant(&self, otherwise: bool) -> Option<Decision> {
        let constant = self.constant.as_ref()?;
        Some(if otherwise { Decision::by_default(true, None) } else { constant.clone() })
    }

    /// Tells whether any rule asks for this variable.
    pub(super) fn ask_for(&self, variable: &str) -> bool {
        self.policies.iter().flat_map(|compiled| &compiled.rules).any(|rule| rule.condition.uses().contains(&variable))
    }

    pub(super) fn decide(&self, values: &Values<'_>, otherwise: bool) -> Decision {
        let real = self.enforced.decide(values, otherwise);
        both(real, || self.whole.as_ref().map(|whole| whole.decide(values, otherwise)))
    }
}

/// Joins the real decision with that of all policies, enforced or not.
fn both(real: Decision, whole: impl FnOnce() -> Option<Decision>) -> Decision {
    if !real.allows() {
        return real;
    }
    match whole() {
        Some(would) if !would.allows() => {
            Decision { effect: Effect::WouldDeny, provisional: real.provisional, ..would }
        }
        Some(would) => Decision { provisional: real.provisional || would.provisional, ..real },
        None => real,
    }
}

/// Finds the rules that decide about a request by its name.
#[derive(Debug)]
pub(super) struct PolicyIndex {
    /// By the longest prefix of the name that any policy states.
    names: HashMap<String, Pools, foldhash::fast::RandomState>,
    /// The rules for requests about no repository.
    unnamed: Pools,
}

impl PolicyIndex {
    /// `tables` are the prefixes of all tables of the configuration. A table makes the repositories below its prefix exist,
    /// also if it leaves their access policy to the table with the next shorter prefix that states one.
    pub(super) fn new<'a>(policies: &'a [Arc<CompiledPolicy>], tables: impl Iterator<Item = &'a String>) -> Self {
        let general: Vec<Arc<CompiledPolicy>> =
            policies.iter().filter(|compiled| compiled.coverage == Coverage::Everything).cloned().collect();
        let mut names = HashMap::default();
        for prefix in policies.iter().flat_map(|compiled| compiled.prefixes()).chain(tables) {
            // A name is covered by the same policies as its longest stated prefix.
            let tables = policies.iter().filter(|compiled| matches!(compiled.coverage, Coverage::Table(_)));
            let table = tables
                .filter_map(|compiled| compiled.length(prefix).map(|length| (length, compiled)))
                .max_by_key(|(length, _)| *length);
            let files = policies.iter().filter(|compiled| {
                matches!(compiled.coverage, Coverage::Names(_)) && compiled.length(prefix).is_some()
            });
            let covering = general.iter().chain(table.map(|(_, compiled)| compiled)).chain(files).cloned().collect();
            names.entry(prefix.clone()).or_insert_with(|| Pools::new(covering, Some(prefix)));
        }
        Self { names, unnamed: Pools::new(general, None) }
    }

    /// Returns the index of one policy alone, for its tests. If it is about everything, every repository exists.
    pub(super) fn alone(compiled: &Arc<CompiledPolicy>) -> Self {
        let mut index = Self::new(std::slice::from_ref(compiled), std::iter::empty());
        if compiled.coverage == Coverage::Everything {
            index.names.insert("*".to_owned(), Pools::new(vec![Arc::clone(compiled)], Some("*")));
        }
        index
    }

    /// Returns the rules for requests with this name, which may be empty. None: the repository does not exist.
    pub(super) fn of(&self, name: &str) -> Option<&Pools> {
        if name.is_empty() {
            return Some(&self.unnamed);
        }
        self.entry(name).map(|(_, pools)| pools)
    }

    /// Returns the longest stated prefix of a name, with its rules.
    pub(super) fn entry(&self, name: &str) -> Option<(&str, &Pools)> {
        let mut prefix = name;
        loop {
            if let Some((prefix, pools)) = self.names.get_key_value(prefix) {
                return Some((prefix, pools));
            }
            match prefix.rsplit_once('/') {
                Some((shorter, _)) => prefix = shorter,
                None => return self.names.get_key_value("*").map(|(prefix, pools)| (prefix.as_str(), pools)),
            }
        }
    }

    /// Returns each stated prefix with its rules.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Pools)> {
        self.names.iter().map(|(prefix, pools)| (prefix.as_str(), pools))
    }

    /// Returns the prefixes of all names that exist, in their order.
    pub(super) fn prefixes(&self) -> Vec<&str> {
        let mut prefixes: Vec<&str> = self.names.keys().map(String::as_str).collect();
        prefixes.sort_unstable();
        prefixes
    }
}

impl CompiledPolicy {
    pub(super) fn prefixes(&self) -> &[String] {
        match &self.coverage {
            Coverage::Everything => &[],
            Coverage::Table(prefix) => std::slice::from_ref(prefix),
            Coverage::Names(prefixes) => prefixes,
        }
    }
}
