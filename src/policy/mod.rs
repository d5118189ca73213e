//! stub
#![allow(missing_docs, clippy::all, clippy::pedantic, unused)]
use crate::{
    action::Action,
    config::Config,
    identity::{Facts, Identity},
};
use std::{path::Path, sync::Arc};
pub struct Policy;
pub struct File {
    pub name: String,
    pub text: String,
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct PolicyErrors;
pub fn read_dir(d: &Path) -> Result<Vec<File>, PolicyErrors> {
    Ok(vec![])
}
#[derive(Debug)]
pub struct Permit {
    action: Action,
}
impl Permit {
    pub const fn action(&self) -> &Action {
        &self.action
    }
    pub fn into_action(self) -> Action {
        self.action
    }
}
pub struct Verdict {
    pub decision: Decision,
    pub outcome: Result<Permit, Action>,
}
#[derive(Clone)]
pub struct Decision {
    pub effect: Effect,
    pub by: Option<Arc<Origin>>,
    pub rule: Option<Arc<str>>,
    pub message: Option<Arc<str>>,
    pub default: bool,
}
#[derive(Clone, Copy)]
pub enum Effect {
    Allow,
    Deny,
    WouldDeny,
    NotCovered,
}
impl Decision {
    pub fn allows(&self) -> bool {
        true
    }
    pub fn reason(&self, a: &'static str) -> String {
        String::new()
    }
}
pub struct Origin {
    pub policy: String,
    pub sha256: String,
}
#[derive(serde::Serialize, Default, Clone)]
pub struct Request {
    pub action: String,
}
impl Request {
    pub fn of(a: &Action, l: &str) -> Self {
        Self::default()
    }
}
impl Policy {
    pub fn build(c: &Config, f: &[File]) -> Result<Policy, PolicyErrors> {
        Ok(Self)
    }
    pub fn warnings(&self) -> &[String] {
        &[]
    }
    pub fn authorize(&self, i: &Identity, action: Action, l: &'static str) -> Verdict {
        Verdict {
            decision: Decision { effect: Effect::Allow, by: None, rule: None, message: None, default: true },
            outcome: Ok(Permit { action }),
        }
    }
    pub fn open_to_everyone(&self) -> impl Iterator<Item = &str> {
        ["*"].into_iter()
    }
}
