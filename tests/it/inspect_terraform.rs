//! `inspect` with `FORMAT: 'terraform'`: Terraform reads the file as the resources that `tctl` would create.

use std::fs;

use expect_test::{ExpectFile, expect_file};
use serde_json::{Value, json};
use testcluster::{ENVIRONMENT_UUID, Testcluster};

use crate::harness::stories;
use crate::inspect::{HOSTILE, deploying, documents, without_ages};
use crate::machine::{TERRAFORM, terraform_program};
use crate::refusals::TOKEN;
use crate::step::{Output, Step};

stories! {
    the_file_has_the_three_resources,
    a_public_log_shows_placeholders,
    flags_and_variables_print_the_same_file,
    other_formats_are_refused,
    terraform_reads_what_tctl_would_read needs TERRAFORM,
    terraform_reads_hostile_names_as_they_are needs TERRAFORM,
    the_file_is_formatted_as_terraform_formats_it needs TERRAFORM,
}

fn terraform(step: Step) -> Step {
    step.env("ACTION", "inspect").env("FORMAT", "terraform")
}

#[track_caller]
fn check(step: Step, golden: &ExpectFile) {
    let step = terraform(step);
    let output = step.pipe().ok();
    golden.assert_eq(&without_ages(&step.scrubbed(&format!("{}{}", output.stderr, output.stdout))));
    assert_eq!(fs::read_dir(step.dir()).unwrap().count(), 0);
}

fn the_file_has_the_three_resources() {
    let cluster = Testcluster::start();
    check(deploying(&cluster).env("LOGINS", "deploy,backup"), &expect_file!["golden/inspect/terraform.tf"]);
    let step =
        Step::new(&cluster).without("PROXY_SERVER").without("TOKEN").env("NODE_LABELS", "env=prod,env=stage,role=*");
    check(step, &expect_file!["golden/inspect/terraform-labels.tf"]);
}

fn a_public_log_shows_placeholders() {
    let cluster = Testcluster::start();
    let step = deploying(&cluster)
        .env("BITBUCKET_REPO_IS_PRIVATE", "false")
        .env("LOGINS", "backup")
        .env("NODE_LABELS", "a=hush");
    let output = terraform(step).pipe().ok();
    for shown in [ENVIRONMENT_UUID, "backup", "hush", "bitbucket.org"] {
        assert!(!output.stdout.contains(shown), "{shown}: {}", output.stdout);
    }
    assert!(
        output.stdout.contains("deployment_environment_uuid = \"DEPLOYMENT_ENVIRONMENT_UUID\"\n"),
        "{}",
        output.stdout
    );
}

fn flags_and_variables_print_the_same_file() {
    let cluster = Testcluster::start();
    let by_flag =
        Step::new(&cluster).without("PROXY_SERVER").without("TOKEN").product(&["inspect", "--format=terraform"]).ok();
    let by_variable = terraform(Step::new(&cluster).without("PROXY_SERVER").without("TOKEN")).pipe().ok();
    assert_eq!(without_ages(&by_flag.stdout), without_ages(&by_variable.stdout));
}

fn other_formats_are_refused() {
    let cluster = Testcluster::start();
    let inspect = |format: &str| Step::new(&cluster).env("ACTION", "inspect").env("FORMAT", format).pipe();
    for (format, remedy) in
        [("json", "Write 'tctl' or 'terraform'"), ("teraform", "Did you mean `terraform`?"), ("hcl", "Write 'tctl'")]
    {
        let output = inspect(format);
        assert_eq!(output.status, Some(2), "{format}");
        assert!(!output.stdout.contains("resource \""), "{}", output.stdout);
        assert!(
            output.stderr.contains(&format!("FORMAT is `{format}`, which is not tctl or terraform")),
            "{}",
            output.stderr
        );
        assert!(output.stderr.contains(remedy), "{}", output.stderr);
    }
    // The default of the other actions, which a step may set for all of them.
    documents(&inspect("text").ok());
    documents(&inspect("TCTL").ok());
}

/// The resources of a file, by their types. Terraform itself reads them, as values: no provider can be asked here.
fn resources(output: &Output) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let mut hcl = String::new();
    for line in output.stdout.lines() {
        match line.strip_prefix("resource \"").and_then(|rest| rest.split_once('"')) {
            Some((kind, _)) => hcl += &format!("locals {{\n{kind} = {{\n"),
            None if line == "}" => hcl += "}\n}\n",
            None => hcl += &format!("{line}\n"),
        }
    }
    // The other resources' names, to which references lead.
    let hcl = with_local_references(&hcl);
    fs::write(directory.path().join("main.tf"), hcl).unwrap();
    let output = console(directory.path());
    serde_json::from_str(&serde_json::from_str::<String>(&output).unwrap()).unwrap()
}

/// References to resources become references to the values.
fn with_local_references(hcl: &str) -> String {
    let mut lines = String::new();
    for line in hcl.lines() {
        let is_comment = line.trim_start().starts_with('#');
        match line
            .split_once("= teleport_bot.")
            .or_else(|| line.split_once("= [teleport_role."))
            .filter(|_| !is_comment)
        {
            Some((before, rest)) if rest.ends_with(']') => {
                let (_, attribute) = rest.split_once('.').unwrap();
                lines += &format!("{before}= [local.teleport_role.{attribute}\n");
            }
            Some((before, rest)) => {
                let (_, attribute) = rest.split_once('.').unwrap();
                lines += &format!("{before}= local.teleport_bot.{attribute}\n");
            }
            None => lines += &format!("{line}\n"),
        }
    }
    lines
}

/// What Terraform says that the values are.
fn console(directory: &std::path::Path) -> String {
    let expression =
        "jsonencode({ role = local.teleport_role, bot = local.teleport_bot, token = local.teleport_provision_token })";
    let script = format!("echo '{expression}' | {} console", terraform_program().unwrap());
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", &script])
        .current_dir(directory)
        .env("TF_CLI_CONFIG_FILE", "/dev/null")
        .env("CHECKPOINT_DISABLE", "1");
    Output::run(&mut command).ok().stdout
}

/// The resources that `tctl` would create, in the form of Terraform's.
fn as_terraform([role, bot, token]: [Value; 3]) -> Value {
    let without_kind = |mut resource: Value| {
        resource.as_object_mut().unwrap().remove("kind");
        resource
    };
    let mut role = without_kind(role);
    for values in role["spec"]["allow"]["node_labels"].as_object_mut().unwrap().values_mut() {
        if !values.is_array() {
            *values = json!([values]);
        }
    }
    let bot = json!({ "name": bot["metadata"]["name"], "roles": bot["spec"]["roles"] });
    json!({ "role": role, "bot": bot, "token": without_kind(token) })
}

fn terraform_reads_what_tctl_would_read() {
    let cluster = Testcluster::start();
    for (labels, scope) in [("", "deployment"), ("env=prod,env=stage,a.b/c=d", "branch"), ("*=*", "workspace")] {
        let step = || deploying(&cluster).env("NODE_LABELS", labels).env("SCOPE", scope).env("LOGINS", "a,b");
        let expected = as_terraform(documents(&step().env("ACTION", "inspect").pipe().ok()));
        assert_eq!(resources(&terraform(step()).pipe().ok()), expected, "{labels}");
    }
}

/// Templates and comments of HCL.
const HOSTILE_HCL: [&str; 6] = [
    "${file(\"/etc/passwd\")}",
    "%{ if true }yes%{ endif }",
    "$${a} $$${b} %%{c} $ {d}",
    "\"]\n}\nresource \"teleport_role\" \"admin\" {}",
    "*/ // # /* <<EOT\nEOT\n",
    "\\\" \\${x} \\\\",
];

fn terraform_reads_hostile_names_as_they_are() {
    let cluster = Testcluster::start();
    for hostile in HOSTILE.into_iter().chain(HOSTILE_HCL) {
        let token = cluster.mint(|claims| {
            for name in ["aud", "iss", "workspaceUuid", "repositoryUuid", "branchName"] {
                claims.insert(name.into(), hostile.into());
            }
        });
        let step = || {
            let step = Step::new(&cluster).env(TOKEN, &token).env("LOGINS_COUNT", "1").without("TOKEN");
            let step = step
                .env("LOGINS_0", "{{it's: \"${a}\" & %{b} # c}}")
                .env("NODE_LABELS", "env=\"${x}%{y}\\\",role='\"'");
            step.env("BITBUCKET_REPO_SLUG", hostile).env("BITBUCKET_WORKSPACE", hostile)
        };
        let resources = resources(&terraform(step()).pipe().ok());
        assert_eq!(resources["token"]["spec"]["bitbucket"]["allow"][0]["branch_name"], hostile);
        assert_eq!(resources, as_terraform(documents(&step().env("ACTION", "inspect").pipe().ok())), "{hostile}");
    }
}

fn the_file_is_formatted_as_terraform_formats_it() {
    let cluster = Testcluster::start();
    for step in [
        deploying(&cluster),
        deploying(&cluster).env("NODE_LABELS", "env=prod,longer.key=a,longer.key=b").env("LOGINS", "a,b"),
    ] {
        let step = terraform(step);
        fs::write(step.dir().join("main.tf"), step.pipe().ok().stdout).unwrap();
        let output = step.run(terraform_program().unwrap(), &["fmt", "-check", "-diff", "-no-color"]);
        assert_eq!((output.status, &*output.stdout), (Some(0), ""), "{}", output.stderr);
    }
}
