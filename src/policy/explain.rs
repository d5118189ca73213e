//! A decision, rule by rule, with the values that were used.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{
    decision::{Decision, Effect},
    expression::{NOW, Undecided, Values},
    input::{FIRST_SEEN_AT, Input, LISTS, TEXTS},
    pool::{CompiledPolicy, Pools, Rule},
    times::FirstSeen,
};

/// The reasons of a decision, rule by rule.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The effect of the decision.
    pub decision: Effect,
    /// The policy that decided.
    pub policy: Option<String>,
    /// The rule that decided. None: a default did.
    pub rule: Option<String>,
    /// The rule's message.
    pub message: Option<String>,
    /// The tag for which this was decided, if the request changes more tags than its path names.
    pub tag: Option<String>,
    /// True if a rule waits for the age of the image: the request goes on for now, and is decided again.
    pub provisional: bool,
    /// The number of tags that the request changes.
    pub tags: usize,
    /// Every rule of every policy that covers the request.
    pub rules: Vec<RuleExplanation>,
    /// The default of every such policy that states one.
    pub defaults: Vec<DefaultExplanation>,
}

/// The outcome of one rule for a request.
#[derive(Clone, Debug, Serialize)]
pub struct RuleExplanation {
    /// Its policy.
    pub policy: String,
    /// Its name.
    pub rule: String,
    /// `allow` or `deny`.
    pub effect: &'static str,
    /// True if its policy is enforced.
    pub enforced: bool,
    /// The value of the condition. None: the rule failed, or waits for the age of the image.
    pub holds: Option<bool>,
    /// The reason of the failure.
    pub failure: Option<&'static str>,
    /// The condition, as it is written.
    pub when: String,
    /// The value of each variable in it.
    pub values: BTreeMap<&'static str, serde_json::Value>,
    /// True if this rule decided.
    pub decided: bool,
}

/// A default that a policy states.
#[derive(Clone, Debug, Serialize)]
pub struct DefaultExplanation {
    /// The policy.
    pub policy: String,
    /// `allow` or `deny`.
    pub effect: &'static str,
    /// The length of the prefix with which the policy covers the name. The longest counts.
    pub length: usize,
    /// True if its policy is enforced.
    pub enforced: bool,
    /// True if this default decided.
    pub decided: bool,
}

impl Explanation {
    pub(super) fn new(decision: &Decision, pools: Option<&Pools>, values: &Values<'_>) -> Self {
        let policies = || pools.into_iter().flat_map(|pools| &pools.policies);
        let is_by = |compiled: &CompiledPolicy| decision.by.as_ref().is_some_and(|by| **by == *compiled.origin);
        let rules = policies().flat_map(|compiled| compiled.rules.iter().map(move |rule| (compiled, rule))).map(
            |(compiled, rule)| {
                let decided = is_by(compiled) && decision.rule.as_deref() == Some(&*rule.name);
                explain(rule, values, decided)
            },
        );
        let name = values.input().namespace();
        let defaults = policies().filter_map(|compiled| {
            let length = if name.is_empty() { Some(0) } else { compiled.length(name) };
            Some(DefaultExplanation {
                policy: compiled.origin.policy.clone(),
                effect: if compiled.default? { "allow" } else { "deny" },
                length: length?,
                enforced: compiled.enforced,
                decided: decision.default && is_by(compiled),
            })
        });
        Self {
            decision: decision.effect,
            policy: decision.by.as_ref().map(|by| by.policy.clone()),
            rule: decision.rule.as_deref().map(str::to_owned),
            message: decision.message.as_deref().map(str::to_owned),
            tag: decision.tag.as_deref().map(str::to_owned),
            provisional: decision.provisional,
            tags: 0,
            rules: rules.collect(),
            defaults: defaults.collect(),
        }
    }
}

fn explain(rule: &Rule, values: &Values<'_>, decided: bool) -> RuleExplanation {
    let held = rule.condition.holds(values);
    RuleExplanation {
        policy: rule.origin.policy.clone(),
        rule: rule.name.to_string(),
        effect: if rule.denies { "deny" } else { "allow" },
        enforced: rule.enforced,
        holds: held.ok(),
        failure: match held {
            Err(Undecided::Fails(why)) => Some(why),
            _ => None,
        },
        when: rule.text.clone(),
        values: rule.condition.uses().iter().map(|path| (*path, value(values.input(), path))).collect(),
        decided,
    }
}

fn value(input: &Input<'_>, path: &str) -> serde_json::Value {
    let text = TEXTS.iter().position(|known| *known == path).map(|index| input.texts[index].into());
    let list = || LISTS.iter().position(|known| *known == path).map(|index| input.lists[index].into());
    let time = || match (path, input.times.first_seen) {
        (NOW, _) => Some(input.times.now.get().to_string().into()),
        (FIRST_SEEN_AT, FirstSeen::At(time)) => Some(time.to_string().into()),
        _ => None,
    };
    text.or_else(list).or_else(time).unwrap_or_default()
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.decision.as_str())?;
        match (&self.policy, &self.rule) {
            (Some(policy), Some(rule)) => writeln!(f, ", by the rule {rule} of {policy}")?,
            (Some(policy), None) => writeln!(f, ", by the default of {policy}: no rule decided")?,
            (None, _) if self.decision == Effect::NotCovered => {
                writeln!(
                    f,
                    ": no [repository.\"...\"] and no policy file covers the repository, so it does not exist"
                )?;
            }
            (None, _) if self.decision.allows() => {
                writeln!(f, ": no rule decided, and this is allowed unless one denies it")?;
            }
            (None, _) => writeln!(f, ": no rule decided, and no default is stated")?,
        }
        if let Some(tag) = &self.tag {
            writeln!(f, "  for the tag {tag}, one of {} that the request changes", self.tags)?;
        }
        if self.provisional {
            writeln!(f, "  for now: policy decides again when the image and its age are known")?;
        }
        if let Some(message) = &self.message {
            writeln!(f, "  message: {message}")?;
        }
        for rule in &self.rules {
            let holds = match (rule.holds, rule.failure) {
                (Some(holds), _) => holds.to_string(),
                (None, Some(failure)) => format!("failed ({failure}), which denies"),
                (None, None) => "open: it waits for the image".to_owned(),
            };
            let mark = if rule.decided { "->" } else { "  " };
            let enforced = if rule.enforced { "" } else { ", not enforced" };
            writeln!(f, "\n{mark} {} {}, rule {}{enforced}: {holds}", rule.effect, rule.policy, rule.rule)?;
            for (index, line) in rule.when.trim().lines().enumerate() {
                writeln!(f, "     {} {}", if index == 0 { "when" } else { "    " }, line.trim())?;
            }
            for (path, value) in &rule.values {
                writeln!(f, "          {path} = {value}")?;
            }
        }
        if !self.defaults.is_empty() {
            writeln!(f)?;
        }
        for default in &self.defaults {
            let mark = if default.decided { "->" } else { "  " };
            let enforced = if default.enforced { "" } else { ", not enforced" };
            writeln!(f, "{mark} default of {}{enforced}: {}", default.policy, default.effect)?;
        }
        Ok(())
    }
}
