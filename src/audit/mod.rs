//! stub
#![allow(missing_docs, clippy::all, clippy::pedantic, unused)]
#[derive(Clone)]
pub struct Audit;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct AuditError;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct NotRecording;
impl Audit {
    pub fn open(o: &crate::config::Audit) -> Result<Self, AuditError> {
        Ok(Self)
    }
    pub fn is_on(&self) -> bool {
        false
    }
    pub fn ready(&self) -> Result<(), NotRecording> {
        Ok(())
    }
    pub fn record(&self, l: &Line<'_>) -> Result<(), NotRecording> {
        Ok(())
    }
    pub fn failing(&self) -> Option<String> {
        None
    }
}
pub struct Line<'a> {
    pub event: &'static str,
    pub request_id: &'a str,
    pub identity: &'a crate::identity::Facts,
    pub request: &'a crate::policy::Request,
    pub decision: &'a str,
    pub policy: Option<&'a str>,
    pub rule: Option<&'a str>,
    pub policy_sha256: Option<&'a str>,
    pub message: Option<&'a str>,
    pub status: u16,
}
