//! `edge-host failover`: what an operator does when the primary is gone and nobody has taken its place by itself.

use clap::{Args, Subcommand};
use edge_host::config::FailoverServers;
use edge_host::store::mysql::{MySqlTarget, Promotion, promote, status};

pub(crate) const HELP: &str = "\
Environment (URLs have passwords, and a command line can be read by everybody):
  TROLI_PROMOTE_URL      mysql://ADMIN:PASSWORD@HOST/DATABASE of the replica; an account that may change its role
  TROLI_OLD_PRIMARY_URL  the same of the primary that was, if it may still answer: then nothing is lost
  TROLI_DNS_SERVERS      name servers that are asked where names are, ip:port,ip:port; default: the system's

deploy/README.md says what to do before and after.";

#[derive(Subcommand)]
pub(crate) enum FailoverCommand {
    /// Shows what the servers say of themselves: who takes writes, at which epoch, how far each has come
    #[command(after_help = HELP)]
    Status,
    /// Makes a replica the primary
    #[command(after_help = HELP)]
    Promote(PromoteArgs),
}

#[derive(Args)]
pub(crate) struct PromoteArgs {
    /// Go on when the old primary cannot be asked, or has more than the replica gets: the epoch rises, and what was
    /// lost is shown nowhere any more
    #[arg(long)]
    accept_loss: bool,
    /// The new epoch is this one at least
    #[arg(long, value_name = "N", default_value_t = 0)]
    epoch_at_least: u32,
}

impl FailoverCommand {
    pub(crate) async fn run(self, servers: FailoverServers) -> anyhow::Result<()> {
        let FailoverServers { replica, old_primary } = servers;
        match self {
            Self::Status => show(&replica, old_primary.as_ref()).await,
            Self::Promote(PromoteArgs { accept_loss, epoch_at_least }) => {
                let promotion = Promotion { replica, old_primary, accept_loss, epoch_at_least };
                let promoted = promote(&promotion).await?;
                let lost = if promoted.may_have_lost { "writes may be lost" } else { "nothing was lost" };
                eprintln!("promoted: it takes writes, at epoch {}; {lost}", promoted.epoch);
                Ok(())
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "the answer is what was asked for")]
async fn show(replica: &MySqlTarget, old_primary: Option<&MySqlTarget>) -> anyhow::Result<()> {
    let mut silent = 0;
    for target in [Some(replica), old_primary].into_iter().flatten() {
        for answer in status(target).await {
            match answer {
                Ok(status) => println!("{}", serde_json::to_string(&status)?),
                Err(error) => {
                    silent += 1;
                    eprintln!("{:#}", anyhow::Error::from(error));
                }
            }
        }
    }
    anyhow::ensure!(silent == 0, "not every server answers");
    Ok(())
}
