# Claims of the step's ID token, not verified here:
#   aud: ari:cloud:bitbucket::workspace/8a1fd0a3-6f0b-4d1c-9d4e-2b7c5a90e1f4
#   iss: https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc
#   sub: {384f00e0-2c5b-4b0e-a0b3-5d7e91f3c6aa}:{858c583a-4e5f-4a6b-8c7d-9e0f1a2b3c4d}
#   workspaceUuid: {8a1fd0a3-6f0b-4d1c-9d4e-2b7c5a90e1f4}
#   repositoryUuid: {384f00e0-2c5b-4b0e-a0b3-5d7e91f3c6aa}
#   pipelineUuid: {84a8ea4b-1d2e-4c3f-9a5b-6c7d8e9f0a1b}
#   stepUuid: {858c583a-4e5f-4a6b-8c7d-9e0f1a2b3c4d}
#   branchName: main
#   deploymentEnvironmentUuid: {7b1c9e52-8d34-4f6a-b1c7-0e5d2f8a4b93}
#   expires: in AGE, at TIME
#
# The cluster at localhost:PORT answered:
#   name: example.teleport.sh
#   version: 18.2.0
#   signature suite: balanced-v1
#   TLS routing: yes
#   ssh goes to: localhost:PORT
#
# If you see `$TOKEN` or another `$NAME` below in place of a value, that variable is secured, and Bitbucket hid its value
# in this log. Write the value there before you create anything, or make the variable not secured and run inspect again:
# names of tokens, logins and labels are not secrets.

# What the step may do.
# It reaches the nodes that have the label below and no others, so none until some have it. Better set NODE_LABELS
# (--node-labels) to labels that your nodes have, such as 'env=prod', and run inspect again; `tctl nodes ls` shows
# them. Otherwise give nodes this label: `labels` below `ssh_service` in a node's teleport.yaml.
resource "teleport_role" "example_role" {
  version = "v7"
  metadata = {
    name = "example-role"
  }
  spec = {
    allow = {
      # Users on the node.
      logins = ["deploy", "backup"]
      node_labels = {
        "deploy-from" = ["acme/infrastructure/production"]
        # The last resort, in place of the label above. WARNING: with it the role reaches EVERY node of the cluster.
        # "*" = ["*"]
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
#   metadata = { name = "example" }
#   spec     = { roles = [teleport_role.example_role.metadata.name] }
# and then `bot_name` below is teleport_bot.example.metadata.name.
resource "teleport_bot" "example" {
  name  = "example"
  roles = [teleport_role.example_role.metadata.name]
}

# Which steps may be that bot.
# This repository's steps with this deployment environment. Which branches may deploy there is set in Bitbucket.
resource "teleport_provision_token" "example_bot" {
  version = "v2"
  metadata = {
    name = "example-bot"
  }
  spec = {
    roles       = ["Bot"]
    bot_name    = teleport_bot.example.name
    join_method = "bitbucket"
    bitbucket = {
      identity_provider_url = "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc"
      audience              = "ari:cloud:bitbucket::workspace/8a1fd0a3-6f0b-4d1c-9d4e-2b7c5a90e1f4"
      allow = [{
        workspace_uuid              = "{8a1fd0a3-6f0b-4d1c-9d4e-2b7c5a90e1f4}"
        repository_uuid             = "{384f00e0-2c5b-4b0e-a0b3-5d7e91f3c6aa}"
        deployment_environment_uuid = "{7b1c9e52-8d34-4f6a-b1c7-0e5d2f8a4b93}"
      }]
    }
  }
}

# The administrator of the cluster saves all of this text as teleport.tf in a Terraform configuration
# that has Teleport's provider, in the major version of the cluster:
#   terraform {
#     required_providers {
#       teleport = { source = "terraform.releases.teleport.dev/gravitational/teleport", version = "~> 18.0" }
#     }
#   }
# and runs `terraform plan` and `terraform apply` there.
#
# Then the step, in bitbucket-pipelines.yml:
#   - step:
#       oidc: true
#       deployment: 'production'
#       script:
#         - pipe: ORGANISATION/teleport-pipe:0.1.0
#           variables:
#             PROXY_SERVER: 'localhost:PORT'
#             TOKEN: 'example-bot'
#         - 'ssh -F ./tbot-user/ssh_config deploy@node.example.teleport.sh uptime'
#       after-script:
#         - rm -rf ./tbot-user
