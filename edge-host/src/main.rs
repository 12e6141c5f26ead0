//! `edge-host`: the regional server, and the tools of rule developers and merchants.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use edge_host::app::{App, StartError};
use edge_host::config::environment;
use edge_host::config::{Config, ConfigErrors, Database, FailoverServers, SETTINGS};
use edge_host::store::mysql;
use edge_host::{rules, telemetry};
use region_router::traces;
use tracing::{error, info};

use crate::failover::FailoverCommand;

mod failover;
mod import;

/// Requests are small and many, and often end on another thread than the one they began on; glibc's own allocator
/// then takes a fifth of the time of a cached read, partly waiting for its locks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Wrong usage or configuration (BSD `sysexits.h`, `EX_USAGE`).
const EXIT_USAGE: u8 = 64;

/// The regional server of Troli, a multi-region shopping cart.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Exit status: 0 when stopped, 1 when something failed, 64 for wrong usage or configuration."
)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Serves one region, until SIGINT or SIGTERM
    #[command(after_help = settings_help())]
    Serve,
    /// Brings the schema of the primary in MySQL up to date; safe to do twice, and from two hosts at once
    #[command(
        after_help = "Reads TROLI_DATABASE_URL, as serve does. An SQLite file is brought up to date by serve."
    )]
    Migrate,
    /// The operator's word in a failover that the databases do not make by themselves
    #[command(subcommand, after_help = failover::HELP)]
    Failover(FailoverCommand),
    /// The tools of rule developers
    #[command(subcommand)]
    Rules(RulesCommand),
    /// The tools of merchants
    #[command(subcommand)]
    Items(ItemsCommand),
}

#[derive(Subcommand)]
enum RulesCommand {
    /// Makes a component of a core module that was built for wasm32-unknown-unknown
    Build {
        /// The core module, such as target/rules/wasm32-unknown-unknown/guest/standard.wasm
        module: PathBuf,
        /// Where the component goes; the file is replaced in one step
        #[arg(short, long)]
        output: PathBuf,
    },
}

#[derive(Subcommand)]
enum ItemsCommand {
    /// Puts the items of a CSV file into the catalogue
    #[command(after_help = import::HELP)]
    Import(import::Import),
}

fn main() -> ExitCode {
    edge_host::peers::use_ring();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.role {
        Role::Serve => serve(),
        Role::Migrate => migrate(),
        Role::Failover(command) => {
            let servers = match FailoverServers::load(|name| std::env::var(name).ok()) {
                Ok(servers) => servers,
                Err(mistakes) => return misconfigured(&mistakes, "failover"),
            };
            telemetry::init();
            finish(runtime().and_then(|rt| rt.block_on(async { command.run(servers, stop_signal()?).await })))
        }
        Role::Rules(RulesCommand::Build { module, output }) => finish(build(&module, &output)),
        Role::Items(ItemsCommand::Import(import)) => {
            finish(runtime().and_then(|rt| rt.block_on(import.run())))
        }
    }
}

fn serve() -> ExitCode {
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let variables = variables.map(|(name, value)| (name, value.to_string_lossy().into_owned()));
    let mut mistakes = environment::mistakes(variables);
    let region = std::env::var("TROLI_REGION").unwrap_or_default();
    let traces = traces::Settings::of_process("troli-edge-host", Some(&region)).unwrap_or_else(|wrong| {
        mistakes.extend(wrong);
        None
    });
    let config = match Config::load(|name| std::env::var(name).ok()) {
        Ok(config) if mistakes.is_empty() => config,
        Ok(_) => return misconfigured(&ConfigErrors(mistakes), "serve"),
        Err(ConfigErrors(more)) => {
            mistakes.splice(0..0, more);
            return misconfigured(&ConfigErrors(mistakes), "serve");
        }
    };
    telemetry::init();
    info!(settings = environment::shown(|name| std::env::var(name).ok()), "starting");
    let served = runtime().and_then(|runtime| {
        runtime.block_on(async {
            // Before anything listens, so that no signal is missed.
            let stop = stop_signal()?;
            let exporter =
                traces.as_ref().map(traces::start).transpose().context("traces cannot be written")?;
            let mut app = App::start(config).await?;
            let failed = tokio::select! {
                () = stop => false,
                () = app.failed() => true,
            };
            app.shutdown().await;
            if let Some(exporter) = exporter {
                exporter.flush().await;
            }
            if failed { Err(anyhow::anyhow!("a part of the edge has ended")) } else { Ok(()) }
        })
    });
    if let Err(failure) = served {
        error!(error = format!("{failure:#}"), "edge could not serve");
        if !tracing::enabled!(tracing::Level::ERROR) {
            eprintln!("edge-host: {failure:#}");
        }
        let wrong_configuration =
            failure.downcast_ref::<StartError>().is_some_and(StartError::is_configuration);
        return if wrong_configuration { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE };
    }
    ExitCode::SUCCESS
}

fn build(module: &std::path::Path, output: &std::path::Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(module).with_context(|| format!("{} cannot be read", module.display()))?;
    let component = rules::encode(&bytes)?;
    // A region that watches the file must never see half of it.
    let partial = output.with_extension("wasm.partial");
    let written = std::fs::write(&partial, &component).and_then(|()| std::fs::rename(&partial, output));
    written.with_context(|| format!("{} cannot be written", output.display()))?;
    eprintln!(
        "{}: {} bytes, revision {}",
        output.display(),
        component.len(),
        rules::Revision::of(&component)
    );
    Ok(())
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("edge-host: {failure:#}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime cannot be started")
}

fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn migrate() -> ExitCode {
    let target = match Database::load(|name| std::env::var(name).ok()) {
        Ok(Database::MySql(target)) => target,
        Ok(Database::Sqlite(_)) => return finish(Ok(())),
        Err(mistakes) => return misconfigured(&mistakes, "migrate"),
    };
    finish(runtime().and_then(|runtime| {
        runtime.block_on(mysql::migrate(&target)).context("the schema is not up to date")
    }))
}

fn misconfigured(mistakes: &ConfigErrors, command: &str) -> ExitCode {
    eprintln!("edge-host: the configuration is wrong:");
    mistakes.0.iter().for_each(|mistake| eprintln!("  {mistake}"));
    eprintln!("See edge-host {command} --help.");
    ExitCode::from(EXIT_USAGE)
}

/// The standard's own variables.
const TRACES_HELP: &str = "
Traces are sent by OTLP where OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) is set, such as
http://127.0.0.1:4318. The other variables of OpenTelemetry that are read: OTEL_EXPORTER_OTLP_PROTOCOL (http/protobuf,
grpc), OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_TIMEOUT, OTEL_TRACES_EXPORTER (otlp, none), OTEL_TRACES_SAMPLER,
OTEL_TRACES_SAMPLER_ARG, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_MAX_QUEUE_SIZE,
OTEL_BSP_MAX_EXPORT_BATCH_SIZE, OTEL_BSP_SCHEDULE_DELAY and OTEL_SDK_DISABLED. Failures and requests of over 200 ms are
sent whatever the sampler says, unless that is always_off.
";

fn settings_help() -> String {
    let mut help = "Configuration, from the environment:\n".to_owned();
    for setting in SETTINGS {
        let default = setting.default.map(|default| format!(" [default: {default}]")).unwrap_or_default();
        help.push_str(&format!("  {}\n          {}{default}\n", setting.name, setting.help));
    }
    let log = telemetry::ENV_LOG_FILTER;
    help.push_str(&format!(
        "  {log}\n          which log lines are written, such as info or info,edge_host=debug [default: info]\n"
    ));
    let format = telemetry::ENV_LOG_FORMAT;
    help.push_str(&format!(
        "  {format}\n          how: json or text [default: text on a terminal, json otherwise]\n"
    ));
    let reads = telemetry::ENV_LOG_READS;
    help.push_str(&format!(
        "  {reads}\n          one read of so many has a log line, 0 for none; writes, failures and what takes over\n          \
         200 ms all have one [default: 1000]\n"
    ));
    let file = traces::ENV_FILE;
    help.push_str(&format!(
        "  {file}\n          a file that traces are written to as well, as OTLP in JSON, a message a line\n"
    ));
    help.push_str(TRACES_HELP);
    help.push_str("\nA wrong configuration prints every mistake and exits 64 before any port is bound.");
    help
}
