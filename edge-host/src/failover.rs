//! `edge-host failover`: what an operator does when the primary is gone or is to be moved.

use anyhow::Context;
use clap::{Args, Subcommand};
use edge_host::config::FailoverServers;
use edge_host::store::mysql::{MySqlTarget, Promotion, Verdict, abort, promote, status};
use tokio_util::sync::CancellationToken;

pub(crate) const HELP: &str = "\
Environment (URLs have passwords, and a command line can be read by everybody):
  TROLI_PROMOTE_URL      mysql://ADMIN:PASSWORD@HOST/DATABASE of the replica; an account that may change its role
  TROLI_OLD_PRIMARY_URL  the same of the primary that was, if it may still answer: then nothing is lost
  TROLI_DNS_SERVERS      name servers that are asked where names are, ip:port,ip:port; default: the system's

Exit status: 0 done; 1 refused, failed, or not as it should be; 64 wrong usage or configuration.
deploy/README.md says what to do before and after.";

#[derive(Subcommand)]
pub(crate) enum FailoverCommand {
    /// Shows each server in a line of JSON, and a verdict: whether exactly one takes writes
    #[command(after_help = HELP)]
    Status,
    /// Makes a replica the primary; a new epoch begins
    ///
    /// Everything is checked before anything is changed. A signal before the new epoch begins undoes what was changed.
    #[command(after_help = HELP)]
    Promote(PromoteArgs),
    /// Undoes a promotion that was killed before its new epoch began: the old primary takes writes again
    #[command(after_help = HELP)]
    Abort,
}

#[derive(Args)]
pub(crate) struct PromoteArgs {
    /// Go on when the old primary cannot be asked, or has more than the replica gets: what was lost is shown nowhere
    /// any more
    #[arg(long)]
    accept_loss: bool,
    /// The server may take writes already: stop the other one, which does too, and begin an epoch
    #[arg(long)]
    fence_other: bool,
    /// The new epoch is this one at least
    #[arg(long, value_name = "N", default_value_t = 0)]
    epoch_at_least: u32,
}

impl FailoverCommand {
    /// Runs it; a promotion that has not begun its epoch ends when `stop` does.
    pub(crate) async fn run(
        self,
        servers: FailoverServers,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let FailoverServers { replica, old_primary } = servers;
        match self {
            Self::Status => show(&replica, old_primary.as_ref()).await,
            Self::Promote(PromoteArgs { accept_loss, fence_other, epoch_at_least }) => {
                let promotion = Promotion { replica, old_primary, accept_loss, fence_other, epoch_at_least };
                let interrupted = CancellationToken::new();
                let signal = interrupted.clone();
                tokio::spawn(async move {
                    stop.await;
                    signal.cancel();
                });
                let promoted = promote(&promotion, &interrupted).await?;
                let lost = if promoted.may_have_lost { "writes may be lost" } else { "nothing was lost" };
                let old = if promoted.fenced {
                    "the old primary takes no writes, also after a restart"
                } else {
                    "the old primary was not reached: make sure that it never takes writes again"
                };
                eprintln!("promoted: it takes writes, at epoch {}; {lost}; {old}", promoted.epoch);
                Ok(())
            }
            Self::Abort => {
                let old_primary = old_primary.context("failover abort needs TROLI_OLD_PRIMARY_URL")?;
                abort(&replica, &old_primary).await?;
                eprintln!("aborted: the old primary takes writes again");
                Ok(())
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "the answer is what was asked for")]
async fn show(replica: &MySqlTarget, old_primary: Option<&MySqlTarget>) -> anyhow::Result<()> {
    let mut servers = Vec::new();
    let mut silent = 0;
    for target in [Some(replica), old_primary].into_iter().flatten() {
        for answer in status(target).await {
            match answer {
                Ok(status) => {
                    println!("{}", serde_json::to_string(&status)?);
                    servers.push(status);
                }
                Err(error) => {
                    silent += 1;
                    eprintln!("{:#}", anyhow::Error::from(error));
                }
            }
        }
    }
    let verdict = Verdict::on(&servers);
    anyhow::ensure!(verdict.is_good(), "{verdict}");
    eprintln!("{verdict}");
    anyhow::ensure!(silent == 0, "not every server answers");
    Ok(())
}
