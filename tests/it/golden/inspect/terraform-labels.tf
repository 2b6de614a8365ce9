inspect       warning: a value in NODE_LABELS (--node-labels) fits every value of its label
# Claims of the step's ID token, not verified here:
#   aud: ari:cloud:bitbucket::workspace/8a1fd0a3-6f0b-4d1c-9d4e-2b7c5a90e1f4
#   iss: https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc
#   sub: {384f00e0-2c5b-4b0e-a0b3-5d7e91f3c6aa}:{858c583a-4e5f-4a6b-8c7d-9e0f1a2b3c4d}
#   workspaceUuid: {8a1fd0a3-6f0b-4d1c-9d4e-2b7c5a90e1f4}
#   repositoryUuid: {384f00e0-2c5b-4b0e-a0b3-5d7e91f3c6aa}
#   pipelineUuid: {84a8ea4b-1d2e-4c3f-9a5b-6c7d8e9f0a1b}
#   stepUuid: {858c583a-4e5f-4a6b-8c7d-9e0f1a2b3c4d}
#   branchName: main
#   deploymentEnvironmentUuid: (none)
#   expires: in AGE, at TIME
#
# The cluster was not asked: PROXY_SERVER (--proxy-server) is not set.
#
# If you see `$TOKEN` or another `$NAME` below in place of a value, that variable is secured, and Bitbucket hid its value
# in this log. Write the value there before you create anything, or make the variable not secured and run inspect again:
# names of tokens, logins and labels are not secrets.

# What the step may do.
# It reaches the nodes that have all of the labels below, which are those of NODE_LABELS (--node-labels), and no
# others. If a label has several values, one of them is enough.
resource "teleport_role" "infrastructure_role" {
  version = "v7"
  metadata = {
    name = "infrastructure-role"
  }
  spec = {
    allow = {
      # Users on the node. An example: put in your own, or set LOGINS and run inspect again.
      logins = ["deploy"]
      # WARNING: every value of the label role fits.
      node_labels = {
        "env"  = ["prod", "stage"]
        "role" = ["*"]
      }
    }
    options = {
      # No certificate lives longer. A TTL above it is cut.
      max_session_ttl = "1h"
      # No tunnels through the nodes.
      port_forwarding = false
    }
  }
}

# Who the step is. Every version 17 and 18 of the provider takes this form. Version 18.4.0 and newer warn that it is
# deprecated; they also take
#   metadata = { name = "infrastructure" }
#   spec     = { roles = [teleport_role.infrastructure_role.metadata.name] }
# and then `bot_name` below is teleport_bot.infrastructure.metadata.name.
resource "teleport_bot" "infrastructure" {
  name  = "infrastructure"
  roles = [teleport_role.infrastructure_role.metadata.name]
}

# Which steps may be that bot.
# This repository's steps on this branch; another branch needs another rule below `allow`. A step with `deployment:`
# can have a rule for that alone: run inspect in it.
resource "teleport_provision_token" "infrastructure_bot" {
  version = "v2"
  metadata = {
    name = "infrastructure-bot"
  }
  spec = {
    roles       = ["Bot"]
    bot_name    = teleport_bot.infrastructure.name
    join_method = "bitbucket"
    bitbucket = {
      identity_provider_url = "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc"
      audience              = "ari:cloud:bitbucket::workspace/8a1fd0a3-6f0b-4d1c-9d4e-2b7c5a90e1f4"
      allow = [{
        workspace_uuid  = "{8a1fd0a3-6f0b-4d1c-9d4e-2b7c5a90e1f4}"
        repository_uuid = "{384f00e0-2c5b-4b0e-a0b3-5d7e91f3c6aa}"
        branch_name     = "main"
      }]
    }
  }
}

# The administrator of the cluster saves all of this text as teleport.tf in a Terraform configuration
# that has Teleport's provider, in the major version of the cluster:
#   terraform {
#     required_providers {
#       teleport = { source = "terraform.releases.teleport.dev/gravitational/teleport" }
#     }
#   }
# and runs `terraform plan` and `terraform apply` there.
#
# Then the step, in bitbucket-pipelines.yml:
#   - step:
#       oidc: true
#       script:
#         - pipe: ORGANISATION/teleport-pipe:0.1.0
#           variables:
#             PROXY_SERVER: 'example.teleport.sh:443'
#             TOKEN: 'infrastructure-bot'
#         - 'ssh -F ./tbot-user/ssh_config deploy@node.example.teleport.sh uptime'
#       after-script:
#         - rm -rf ./tbot-user
