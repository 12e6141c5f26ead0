//! An operator makes a replica the primary.
//!
//! Every promotion begins a new epoch, and it begins before the replica takes its first write: an edge that has heard
//! of the epoch never goes back to a server of an older one. Where the old primary can still be asked, it is stopped
//! first, and the replica waits for all its transactions: nothing is lost. Where it cannot, what it committed last may
//! be missing, and the operator has to accept that.
//!
//! Everything is checked before anything is changed. What is changed before the new epoch begins is undone when the
//! promotion fails or is interrupted; from then on it goes on to its end. Killed in between, it can be run again.

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::MySqlTarget;
use super::operator::{Server, ServerStatus};

/// A replica that is further behind than it catches up within this is not promoted; seconds.
const LAG_MAX_S: u32 = 5;
/// The transactions that were under way when the old primary was stopped come within this; seconds.
const CATCH_UP_S: u32 = 10;
/// Without the old primary, the replica applies all that it has taken in; seconds.
const APPLY_S: u32 = 60;

/// What is to be done.
pub struct Promotion {
    /// The server that is to be the primary.
    pub replica: MySqlTarget,
    /// The one that was; it is stopped if it can be asked.
    pub old_primary: Option<MySqlTarget>,
    /// Whether to go on when writes may be lost.
    pub accept_loss: bool,
    /// Whether the server may take writes already, and the other one is to stop.
    pub fence_other: bool,
    /// The new epoch is this one at least, for when a newer one was seen than the replica knows of.
    pub epoch_at_least: u32,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promoted {
    /// The epoch that has begun.
    pub epoch: u32,
    /// Whether writes may have been lost.
    pub may_have_lost: bool,
    /// Whether the old primary takes no writes any more.
    pub fenced: bool,
}

/// Why nothing was promoted. Unless the text says otherwise, the servers are as they were.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// The server does not answer, or not as it should.
    #[error("{0} does not do what it is asked to")]
    Server(String, #[source] sqlx::Error),
    /// The server says nothing.
    #[error("{0} does not answer in time")]
    Silent(String),
    /// It takes writes.
    #[error(
        "{0} takes writes already, at epoch {1}; where another server does too, --fence-other stops that one"
    )]
    IsPrimary(String, u32),
    /// There is no other to stop.
    #[error("--fence-other needs the other server in TROLI_OLD_PRIMARY_URL")]
    NoOther,
    /// Both addresses lead to one server.
    #[error("{0} and {1} are one server, {2}")]
    SameServer(String, String, String),
    /// The replica has its data from another server.
    #[error("{0} does not follow {1}, but {2}")]
    OtherSource(String, String, String),
    /// It follows none, and lacks transactions.
    #[error("{0} follows no server, and has not all transactions of {1}; --accept-loss goes on")]
    NoReplica(String, String),
    /// Nobody knows what the old primary had.
    #[error(
        "the old primary cannot be asked what it has committed, so writes may be lost; --accept-loss goes on"
    )]
    MayLose,
    /// The old primary has more than the replica gets in time.
    #[error(
        "the replica {0} is more than {1} s behind the old primary; wait until it has caught up, or --accept-loss"
    )]
    Behind(String, u32),
    /// The replica does not get on with what has come to it.
    #[error("the replica has not applied what has come to it within {APPLY_S} s; run this again when it has")]
    Applying,
    /// The other server has transactions of its own.
    #[error("{0} has transactions that {1} has not: {2}; --accept-loss gives them up")]
    Diverged(String, String, String),
    /// A signal.
    #[error("interrupted")]
    Interrupted,
    /// The new epoch has begun, so there is no way back.
    #[error("{0} may be at epoch {1} or later, and may not take writes yet; run this again")]
    HalfDone(String, u32, #[source] Box<PromoteError>),
    /// What was begun could not be undone.
    #[error("{0} takes no writes, and could not be made to again ({1}); run failover abort")]
    NotUndone(String, String, #[source] Box<PromoteError>),
    /// There is nothing to go back to.
    #[error(
        "{0} is at epoch {1} already: there is no way back; where failover status says that no server takes writes, run \
         failover promote again"
    )]
    TooLate(String, u32),
}

/// Makes a replica the primary, unless it is interrupted before the new epoch begins.
///
/// # Errors
/// When it cannot be done without losing writes and that was not accepted, or a server fails.
pub async fn promote(
    promotion: &Promotion,
    interrupted: &CancellationToken,
) -> Result<Promoted, PromoteError> {
    let mut servers = unless(interrupted, Servers::check(promotion)).await?;
    let prepared = servers.prepare(promotion, interrupted).await;
    let may_have_lost = match prepared {
        Ok(may_have_lost) => may_have_lost,
        Err(error) => return Err(servers.undo(error).await),
    };
    servers.finish(promotion, may_have_lost).await
}

/// Undoes a promotion that was killed before its new epoch began: the old primary takes writes again.
///
/// # Errors
/// When the new epoch has begun, the servers are not what they are said to be, or one fails.
pub async fn abort(replica: &MySqlTarget, old_primary: &MySqlTarget) -> Result<(), PromoteError> {
    let (mut replica, mut old) = (Server::connect(replica).await?, Server::connect(old_primary).await?);
    let (is, was) = (replica.status().await?, old.status().await?);
    check_identities(&is, &was)?;
    if is.takes_writes || is.epoch > was.epoch {
        return Err(PromoteError::TooLate(is.server, is.epoch));
    }
    old.open().await?;
    if is.follows.is_some() {
        replica.follow_again().await?;
    }
    Ok(())
}

/// The server that is to be the primary, and the one that was, where it can be asked.
struct Servers {
    replica: Server,
    is: ServerStatus,
    old: Option<(Server, ServerStatus, MySqlTarget)>,
    /// What has to be undone.
    stopped_old: bool,
    stopped_replica: bool,
}

impl Servers {
    /// Looks at everything; changes nothing.
    async fn check(promotion: &Promotion) -> Result<Self, PromoteError> {
        let mut replica = Server::connect(&promotion.replica).await?;
        let is = replica.status().await?;
        if is.takes_writes && !promotion.fence_other {
            return Err(PromoteError::IsPrimary(is.server, is.epoch));
        }
        if promotion.fence_other && promotion.old_primary.is_none() {
            return Err(PromoteError::NoOther);
        }
        let mut old = match &promotion.old_primary {
            Some(target) => reached(target).await,
            None => None,
        };
        match &mut old {
            Some((_, was, _)) => {
                check_identities(&is, was)?;
                check_lag(promotion, &mut replica, &is, was).await?;
            }
            None if promotion.accept_loss => info!("going on without the old primary: writes may be lost"),
            None => return Err(PromoteError::MayLose),
        }
        Ok(Self { replica, is, old, stopped_old: false, stopped_replica: false })
    }

    /// Stops the old primary and gets its last transactions; returns whether some may be lost.
    async fn prepare(
        &mut self,
        promotion: &Promotion,
        interrupted: &CancellationToken,
    ) -> Result<bool, PromoteError> {
        let mut may_have_lost = true;
        if let Some((old, was, _)) = &mut self.old {
            self.stopped_old = was.takes_writes;
            old.stop_writes().await?;
            let all = old.status().await?.gtid_executed;
            let caught_up = if self.is.follows.is_some() {
                unless(interrupted, self.replica.has_applied(&all, CATCH_UP_S)).await?
            } else {
                self.replica.misses(&all).await?.is_empty()
            };
            if !caught_up && !promotion.accept_loss {
                return Err(PromoteError::Behind(self.replica.name.clone(), CATCH_UP_S));
            }
            may_have_lost = !caught_up;
        }
        if self.is.follows.is_some() {
            self.stopped_replica = true;
            let taken_in = self.replica.stop_taking_in().await?.filter(|_| may_have_lost);
            if let Some(taken_in) = taken_in
                && !unless(interrupted, self.replica.has_applied(&taken_in, APPLY_S)).await?
            {
                return Err(PromoteError::Applying);
            }
            self.replica.run("STOP REPLICA").await?;
        }
        if interrupted.is_cancelled() { Err(PromoteError::Interrupted) } else { Ok(may_have_lost) }
    }

    /// Puts everything back; returns the error to tell.
    async fn undo(&mut self, error: PromoteError) -> PromoteError {
        if self.stopped_replica
            && let Err(failed) = self.replica.follow_again().await
        {
            warn!(error = %failed, "the replica does not follow again: START REPLICA");
        }
        let Some((_, was, target)) = self.old.as_ref().filter(|_| self.stopped_old) else { return error };
        // Over another connection: the first may have failed.
        let reopened = async { Server::connect(target).await?.open().await };
        match reopened.await {
            Ok(()) => error,
            Err(failed) => PromoteError::NotUndone(was.server.clone(), failed.to_string(), Box::new(error)),
        }
    }

    /// Begins the epoch and opens the new primary. There is no way back from the first.
    async fn finish(&mut self, promotion: &Promotion, may_have_lost: bool) -> Result<Promoted, PromoteError> {
        let ready = async {
            if let Some((old, ..)) = &mut self.old {
                old.fence().await?;
            }
            self.replica.make_durable().await?;
            // It refuses all writes still, but for those of administrators.
            self.replica.run("SET GLOBAL super_read_only = OFF").await
        };
        if let Err(error) = ready.await {
            return Err(self.undo(error).await);
        }
        let past = self.old.as_ref().map_or(0, |(_, was, _)| was.epoch);
        let least = promotion.epoch_at_least.max(past + 1);
        let half_done = |error| PromoteError::HalfDone(self.is.server.clone(), least, Box::new(error));
        let epoch = self.replica.begin_epoch(least).await.map_err(half_done)?;
        let opened = async {
            self.replica.run("RESET REPLICA ALL").await?;
            self.replica.open().await
        };
        opened.await.map_err(half_done)?;
        Ok(Promoted { epoch, may_have_lost, fenced: self.old.is_some() })
    }
}

/// The old primary, if it can be asked.
async fn reached(target: &MySqlTarget) -> Option<(Server, ServerStatus, MySqlTarget)> {
    let asked = async {
        let mut old = Server::connect(target).await?;
        let was = old.status().await?;
        Ok::<_, PromoteError>((old, was, target.clone()))
    };
    match asked.await {
        Ok(old) => Some(old),
        Err(error) => {
            warn!(error = %crate::telemetry::chain(&error), "the old primary cannot be asked");
            None
        }
    }
}

/// Two servers, and where the first is a replica, one of the second.
fn check_identities(is: &ServerStatus, was: &ServerStatus) -> Result<(), PromoteError> {
    let names = || (is.server.clone(), was.server.clone());
    if is.server_uuid == was.server_uuid {
        let (is, was_at) = names();
        return Err(PromoteError::SameServer(is, was_at, was.server_uuid.clone()));
    }
    match &is.follows {
        Some(source) if !source.server_uuid.is_empty() && source.server_uuid != was.server_uuid => {
            let (is, was) = names();
            Err(PromoteError::OtherSource(is, was, format!("{} ({})", source.server, source.server_uuid)))
        }
        _ => Ok(()),
    }
}

/// Whether the replica has, or gets within seconds, all that the old primary has at this moment.
async fn check_lag(
    promotion: &Promotion,
    replica: &mut Server,
    is: &ServerStatus,
    was: &ServerStatus,
) -> Result<(), PromoteError> {
    if promotion.accept_loss {
        return Ok(());
    }
    if is.follows.is_some() {
        let caught_up = replica.has_applied(&was.gtid_executed, LAG_MAX_S).await?;
        return if caught_up { Ok(()) } else { Err(PromoteError::Behind(is.server.clone(), LAG_MAX_S)) };
    }
    let missing = replica.misses(&was.gtid_executed).await?;
    if missing.is_empty() {
        Ok(())
    } else if is.takes_writes {
        Err(PromoteError::Diverged(was.server.clone(), is.server.clone(), missing))
    } else {
        Err(PromoteError::NoReplica(is.server.clone(), was.server.clone()))
    }
}

/// What is awaited, unless a signal comes first. Only for what changes nothing: a server goes on with a statement
/// that its client has left.
async fn unless<T>(
    interrupted: &CancellationToken,
    work: impl Future<Output = Result<T, PromoteError>>,
) -> Result<T, PromoteError> {
    tokio::select! {
        done = work => done,
        () = interrupted.cancelled() => Err(PromoteError::Interrupted),
    }
}
