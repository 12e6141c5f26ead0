//! The executable: reads its configuration, then runs one of its parts until it is told to stop.
#![forbid(unsafe_code)]

mod cli;
mod telemetry;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use region_router::geodns::Sockets;
use region_router::link::Link;
use region_router::{front_door, geodns, traces};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use cli::{Cli, Command, LinkConfig, Mistakes, ServeConfig};

/// `EX_USAGE` of sysexits.h: the command line or the configuration is wrong, and nothing has been started.
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way, too. With a closed terminal there is nobody left to tell.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let result = match cli.command {
        Command::Serve(args) => {
            let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
            let mut unknown = cli::unknown_variables(names);
            let traces = traces::Settings::of_process("troli-region-router", None).unwrap_or_else(|wrong| {
                unknown.extend(wrong);
                None
            });
            match args.parse() {
                Ok(config) if unknown.is_empty() => Ok(start(serve(config, traces))),
                Ok(_) => Err(Mistakes(unknown)),
                Err(Mistakes(mistakes)) => Err(Mistakes([mistakes, unknown].concat())),
            }
        }
        Command::Link(args) => args.parse().map(|config| start(link(config))),
    };
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            report(&format!("region-router: {error}\n"));
            ExitCode::FAILURE
        }
        Err(Mistakes(mistakes)) => {
            report(&mistakes.iter().map(|mistake| format!("region-router: {mistake}\n")).collect::<String>());
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn start(part: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(part)
}

async fn serve(config: ServeConfig, traces: Option<traces::Settings>) -> io::Result<()> {
    telemetry::init(&config.log);
    let stop = stop_signal()?;
    let exporter = traces.as_ref().map(traces::start).transpose()?;
    let listener = TcpListener::bind(config.listen).await.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {}: {error}", config.listen))
    })?;
    let internal =
        match config.internal_listen {
            Some(address) => Some(TcpListener::bind(address).await.map_err(|error| {
                io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
            })?),
            None => None,
        };
    let names = match config.geodns {
        Some(geodns) => {
            let sockets = Sockets::bind(geodns.listen).await.map_err(|error| {
                io::Error::new(error.kind(), format!("cannot listen on {}: {error}", geodns.listen))
            })?;
            tracing::info!(listen.address = %sockets.addr()?, zone = %geodns.zone.zone, "GeoDNS is open");
            Some((sockets, geodns.zone))
        }
        None => None,
    };
    let topology = config.front_door.regions.topology();
    tracing::info!(
        listen.address = %listener.local_addr()?,
        regions = ?topology.regions().iter().map(|region| region.id).collect::<Vec<_>>(),
        region.home = %topology.home().id,
        countries = ?config.front_door.countries,
        internal.address = ?config.internal_listen,
        trusted_proxies = ?config.front_door.trusted_proxies,
        redirect = config.front_door.redirect,
        "front door is open"
    );
    // Resolvers ask again elsewhere, so names end with the process, and not before its last request.
    let naming =
        names.map(|(sockets, zone)| tokio::spawn(geodns::run(sockets, zone, std::future::pending())));
    front_door::run_with(listener, internal, config.front_door, stop).await;
    if let Some(naming) = naming {
        naming.abort();
    }
    if let Some(exporter) = exporter {
        exporter.flush().await;
    }
    tracing::info!("front door is closed");
    Ok(())
}

async fn link(config: LinkConfig) -> io::Result<()> {
    telemetry::init(&config.log);
    let stop = stop_signal()?;
    let mut links = Vec::new();
    for relay in config.relays {
        let link = Link::start(relay.listen, relay.target.clone(), relay.rtt).await.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot relay on {}: {error}", relay.listen))
        })?;
        // Who started this reads the lines to know that the relays are there.
        writeln!(io::stdout(), "relay {} -> {} rtt_ms={}", link.addr(), relay.target, relay.rtt.as_millis())?;
        links.push(link);
    }
    stop.await;
    Ok(())
}

/// Completes at the first SIGTERM or SIGINT. The handlers are in place when this returns.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn report(text: &str) {
    // With a closed standard error there is nobody left to tell.
    let _ = io::stderr().write_all(text.as_bytes());
}
