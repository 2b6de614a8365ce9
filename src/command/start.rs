//! `start` and the pipe's `join`: one session, whose outputs are all written or none.

use super::{block_on, report};
use crate::destination::{self, Destination, File, Written};
use crate::error::Failure;
use crate::guard::RunningStep;
use crate::host::Host;
use crate::join::oidc::Oidc;
use crate::output::Issued;
use crate::platform::{self, IdToken};
use crate::retry::Deadline;
use crate::session::{Context, Session};
use crate::settings::{Service, Settings};

/// Joins once and writes credentials. Nothing is written before everything is there and checked.
pub(crate) fn run(settings: &Settings, host: &Host) -> Result<(), Failure> {
    let deadline = Deadline::after(settings.timeout);
    // Whatever can be known to fail is found out before the network is used.
    let id_token = id_token(settings, host)?;
    let targets: Vec<Target<'_>> = settings
        .services
        .iter()
        .map(|service| Target::check(service, &id_token, settings, host))
        .collect::<Result<_, _>>()?;
    let authorities = settings.connection.authorities(&host.working_dir)?;
    let network = settings.connection.network(&authorities);
    settings.connection.egress.log_proxy(&settings.connection.addr);
    let program = host.own_binary()?;

    let method = Oidc { id_token };
    let Some(longest) = settings.services.iter().map(|service| service.ttl).max() else { return Ok(()) };
    block_on(async {
        let context = Context {
            connection: &settings.connection,
            network: &network,
            authorities: &authorities,
            clock: &host.clock,
            deadline,
            privacy: settings.privacy,
            on_event: &|event| report::event(event, &settings.connection.addr, settings.privacy),
        };
        let token = &settings.onboarding.token;
        let session = Session::open(context, &method, token, longest, settings.services.len()).await?;
        let now = session.opened_by_cluster_clock();
        let mut issued = Vec::new();
        for Service { output, ttl, .. } in &settings.services {
            let one = session.issue(&output.request(), *ttl).await?;
            report::certificates(&one.credentials, now, *ttl, settings.privacy);
            issued.push(one);
        }
        let (names, written) = write(&targets, &issued, program, deadline).await?;
        for (((target, issued), names), written) in targets.iter().zip(&issued).zip(names).zip(written) {
            let (directory, Service { output, destination, .. }) = (target.destination.absolute(), target.service);
            report::written(&names, output.kind(), directory);
            report::ownership(&written, target.step.run_as_user, &destination.path);
            report::done(target.service, directory, &issued.credentials, now, settings.privacy);
        }
        Ok(())
    })?
}

fn id_token(settings: &Settings, host: &Host) -> Result<IdToken, Failure> {
    let token = match settings.onboarding.platform {
        Some(platform) => platform.detect(&host.env).unwrap_or(Err(platform::Error::NoCi))?,
        None => platform::detect(&host.env)?,
    };
    report::id_token(&token, host.clock.now(), settings.privacy);
    Ok(token)
}

/// A service whose destination was checked.
struct Target<'a> {
    service: &'a Service,
    destination: Destination,
    step: RunningStep,
}

impl<'a> Target<'a> {
    fn check(service: &'a Service, id_token: &IdToken, settings: &Settings, host: &Host) -> Result<Self, Failure> {
        let Service { output, destination, ttl } = service;
        let destination =
            Destination::check(&host.working_dir, &destination.path, destination.unknown_files, destination.owner)?;
        let directory = destination.absolute();
        output.check_directory(directory)?;
        let step = (id_token.platform().preflight)(&host.env, directory, *ttl, settings.leak_check)?;
        if destination.is_noexec() {
            report::noexec(directory);
        }
        Ok(Self { service, destination, step })
    }
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
