# Makes a fresh OpenBao in dev mode into one that Sluice can ask: a KV 2 secret, leased users of a (stand-in) RabbitMQ, and
# three ways to log in. $1 the authority of client certificates, $2 the key of JWTs (PEM, public), $3 the canary.
# Prints the AppRole's secret id.
set -e
job='path "secret/data/job" { capabilities = ["read"] }
path "rabbitmq/creds/ro" { capabilities = ["read"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/renew" { capabilities = ["update"] }'
{
  printf %s "$job" | bao policy write job -
  bao kv put -mount=secret job key="$3"
  bao secrets enable rabbitmq
  bao write rabbitmq/config/connection connection_uri=http://127.0.0.1:15672 username=admin password=admin verify_connection=false
  bao write rabbitmq/config/lease ttl=3 max_ttl=5
  bao write rabbitmq/roles/ro vhosts='{"/":{"read":".*"}}'
  bao auth enable approle
  bao write auth/approle/role/sluice token_policies=job token_ttl=1h
  bao write auth/approle/role/sluice/role-id role_id=sluice-role
  bao auth enable cert
  bao write auth/cert/certs/sluice certificate=@"$1" allowed_common_names=sluice token_policies=job
  bao auth enable jwt
  bao write auth/jwt/config jwt_validation_pubkeys=@"$2"
  bao write auth/jwt/role/ci role_type=jwt bound_audiences=vault user_claim=sub token_policies=job
} >&2
bao write -f -field=secret_id auth/approle/role/sluice/secret-id
