//! `start` and the pipe's `join`: one session, whose outputs are all written or none.

use std::time::SystemTime;

use super::doctor::findings::without_full_node_names;
use super::summary::{self, Done, Progress};
use super::{block_on, report};
use crate::destination::{self, Destination, File, Written};
use crate::error::Failure;
use crate::format::Format;
use crate::guard::{RunningStep, Unchecked};
use crate::host::Host;
use crate::join::kind::Kind;
use crate::join::oidc::Oidc;
use crate::join::token::OneTimeToken;
use crate::join::{self, Method};
use crate::output::Issued;
use crate::platform;
use crate::retry::Deadline;
use crate::session::{Context, Event, Session};
use crate::settings::{Onboarding, Service, Settings};
use crate::values::{JoinToken, Secret, Ttl};

/// Joins once and writes credentials. Nothing is written before everything is there and checked.
pub(crate) fn run(settings: &Settings, host: &Host) -> Result<(), Failure> {
    let (deadline, progress) = (Deadline::after(settings.timeout), Progress::begin());
    // Whatever can be known to fail is found out before the network is used.
    let method = method(settings, host)?;
    let token = match &settings.onboarding.token {
        JoinToken::Name(name) => name.clone(),
        JoinToken::File(path) => join::token::read(path)?,
    };
    if !method.may_repeat() {
        crate::log::hide(token.reveal());
    }
    let targets: Vec<Target<'_>> =
        settings.services.iter().map(|service| Target::check(service, settings, host)).collect::<Result<_, _>>()?;
    destination::expect_distinct(targets.iter().map(|target| &target.destination))?;
    let authorities = settings.connection.authorities(&host.working_dir)?;
    let network = settings.connection.network(&authorities);
    settings.connection.egress.log_proxy(&settings.connection.addr);
    let program = host.own_binary()?;

    let context = Context {
        connection: &settings.connection,
        network: &network,
        authorities: &authorities,
        clock: &host.clock,
        deadline,
        privacy: settings.privacy,
        on_event: &|event| {
            progress.event(&event);
            if let Event::Discovered(cluster) = event
                && cluster.may_lack_full_node_names()
            {
                log::debug!(target: "discover", "{}", without_full_node_names(cluster));
            }
            report::event(event, &settings.connection.addr, settings.privacy);
        },
    };
    progress.done("preflight");
    block_on(async {
        let (issued, now) = issue(context, &*method, &token, settings).await?;
        progress.done("certificates");
        if targets.is_empty() {
            report::no_outputs();
        }
        let (names, written) = write(&targets, &issued, program, deadline).await?;
        progress.done("write");
        for (((target, issued), names), written) in targets.iter().zip(&issued).zip(&names).zip(written) {
            let (directory, Service { name, destination, .. }) = (target.destination.absolute(), target.service);
            report::written(names, name, directory);
            report::ownership(&written, target.step.run_as_user, &destination.path);
            report::done(target.service, directory, &issued.credentials, now, settings.privacy);
        }
        if settings.format == Format::Json {
            let done: Vec<_> = targets.iter().zip(&issued).zip(&names).map(|((t, i), n)| t.done(i, n)).collect();
            summary::print(&done, settings, &progress, now)?;
        }
        Ok(())
    })?
}

/// Joins, and gets what each service requests. Also returns the time by the cluster's clock.
async fn issue(
    context: Context<'_>,
    method: &dyn Method,
    token: &Secret,
    settings: &Settings,
) -> Result<(Vec<Issued>, SystemTime), Failure> {
    let (services, deadline) = (&settings.services, context.deadline);
    // The bot's own identity lives as long as the longest of its outputs.
    let ttl = services.iter().fold(Ttl::MIN, |longest, service| longest.max(service.ttl));
    let session = Session::open(context, method, token, ttl, services.len()).await?;
    let now = session.opened_by_cluster_clock();
    let mut issued = Vec::new();
    for Service { output, ttl, .. } in services {
        let one = session.issue(&output.request(), *ttl, deadline).await?;
        report::certificates(&one.credentials, now, *ttl, settings.privacy);
        issued.push(one);
    }
    Ok((issued, now))
}

/// The join method that was named, or that of the platform that this is.
fn method<'a>(settings: &'a Settings, host: &'a Host) -> Result<Box<dyn Method + 'a>, Failure> {
    let Onboarding { method, source, .. } = &settings.onboarding;
    let platform = match method {
        Some(Kind::OneTimeToken) => return Ok(Box::new(OneTimeToken)),
        Some(Kind::IdToken(platform)) => platform,
        None => platform::detect(&host.env)?,
    };
    let found = platform.find(source.as_ref(), &host.env)?;
    match found.id_token() {
        Some(token) => report::id_token(token, &host.env, host.clock.now(), settings.privacy),
        None => report::id_token_is_requested(platform),
    }
    Ok(Box::new(Oidc::new(found, |token| report::id_token(token, &host.env, host.clock.now(), settings.privacy))))
}

/// A service whose destination was checked.
struct Target<'a> {
    service: &'a Service,
    destination: Destination,
    step: RunningStep,
}

impl<'a> Target<'a> {
    fn check(service: &'a Service, settings: &Settings, host: &Host) -> Result<Self, Failure> {
        let destination = check_destination(service, host)?;
        let directory = destination.absolute();
        let warn = &mut |warning: &str| log::warn!(target: "guard", "{warning}");
        let step =
            platform::preflight(&host.env, directory, service.ttl, settings.leak_check, warn)?.unwrap_or_default();
        match &step.unchecked {
            Some(Unchecked::Impossible(reason)) => log::info!(target: "guard", "not checked: {reason}"),
            Some(Unchecked::Intended(reason)) => log::debug!(target: "guard", "not checked: {reason}"),
            None => {}
        }
        if destination.is_noexec() {
            report::noexec(directory);
        }
        Ok(Self { service, destination, step })
    }

    fn done<'b>(&'b self, issued: &'b Issued, files: &'b [String]) -> Done<'b> {
        let (credentials, directory) = (&issued.credentials, self.destination.absolute());
        Done { service: self.service, credentials, directory, files }
    }
}

/// Checks whether the service can write to its destination. Changes nothing.
pub(super) fn check_destination(service: &Service, host: &Host) -> Result<Destination, Failure> {
    let Service { output, destination, .. } = service;
    let destination =
        Destination::check(&host.working_dir, &destination.path, destination.unknown_files, destination.owner)?;
    output.check_directory(destination.absolute())?;
    Ok(destination)
}

/// Renders every output, then writes all of them or none. Returns the names of the files and what was written.
async fn write(
    targets: &[Target<'_>],
    issued: &[Issued],
    mut program: Vec<u8>,
    deadline: Deadline,
) -> Result<(Vec<Vec<String>>, Vec<Written>), Failure> {
    let mut sets = Vec::new();
    for (n, (target, issued)) in targets.iter().zip(issued).enumerate() {
        let output = &target.service.output;
        // The program has some megabytes: it is copied only for outputs before the last one.
        let is_last = n + 1 == targets.len();
        let own = output
            .program()
            .map(|name| File::executable(name, if is_last { std::mem::take(&mut program) } else { program.clone() }));
        let files = output.render(issued, target.destination.absolute())?;
        sets.push((&target.destination, own.into_iter().chain(files).collect::<Vec<_>>()));
    }
    let names = sets.iter().map(|(_, files)| files.iter().map(|file| file.name().to_owned()).collect()).collect();
    Ok((names, destination::write_all(sets, deadline).await?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use testcluster::Testcluster;

    use super::*;
    use crate::clock::Clock;
    use crate::environment::Environment;
    use crate::pipe;
    use crate::settings::Command;

    /// A run of the pipe in `step` with a second service, whose credentials live for two hours.
    fn run_two(cluster: &Testcluster, step: &Path, second: &str) -> Result<(), Failure> {
        let more = [("PROXY_SERVER", cluster.proxy_addr()), ("TOKEN", cluster.token_name().to_owned())];
        let more = more.map(|(name, value)| (name.to_owned(), value));
        let ca = ("CA_FILE".to_owned(), cluster.web_ca_file().to_str().unwrap().to_owned());
        let env: Environment = cluster.step_env(step).into_iter().chain(more).chain([ca]).collect();
        let with_destination = |path: &str| {
            let destination = ("DESTINATION".to_owned(), path.to_owned());
            let ttl = ("TTL".to_owned(), if path == second { "2h" } else { "1h" }.to_owned());
            let variables = env.names().map(|name| (name.to_owned(), env.get(name).unwrap_or_default().to_owned()));
            match pipe::command(&variables.chain([destination, ttl]).collect()).unwrap() {
                Command::Start(settings) => settings,
                other => panic!("{other:?}"),
            }
        };
        let mut settings = with_destination("./first");
        settings.services.extend(with_destination(second).services);
        fs::write(step.join("program"), "program").unwrap();
        let host = Host { env, working_dir: step.into(), executable: step.join("program"), clock: Clock::system() };
        run(&settings, &host)
    }

    #[test]
    fn two_outputs_have_their_own_keys_and_lifetimes_from_one_join() {
        let (cluster, step) = (Testcluster::start(), tempfile::tempdir().unwrap());
        run_two(&cluster, step.path(), "./second").unwrap();
        let read = |name: &str| fs::read(step.path().join(name)).unwrap();
        assert_ne!(read("first/key"), read("second/key"));
        for directory in ["first", "second"] {
            assert_eq!(read(&format!("{directory}/teleport-pipe")), b"program");
        }
        let lifetime = |directory: &str| {
            let certificate = String::from_utf8(read(&format!("{directory}/key-cert.pub"))).unwrap();
            ssh_key::Certificate::from_openssh(&certificate).unwrap().valid_before()
        };
        assert!(lifetime("second") > lifetime("first") + 3500, "{} {}", lifetime("second"), lifetime("first"));
        let calls = |end: &str| cluster.calls().iter().filter(|call| call.name.ends_with(end)).count();
        assert_eq!((calls("/Join"), calls("/GenerateUserCerts")), (1, 2), "{:?}", cluster.calls());
    }

    #[test]
    fn if_one_output_cannot_be_written_none_is() {
        let (cluster, step) = (Testcluster::start(), tempfile::tempdir().unwrap());
        fs::create_dir(step.path().join("second")).unwrap();
        fs::write(step.path().join("second/mine"), "").unwrap();
        assert!(run_two(&cluster, step.path(), "./second").is_err());
        // Unknown files are found before the network is used.
        assert!(cluster.record().is_empty() && !step.path().join("first").exists());
        assert!(run_two(&cluster, step.path(), "./first").is_err());
        assert!(cluster.record().is_empty() && !step.path().join("first").exists());
    }
}
