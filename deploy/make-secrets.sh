#!/bin/sh
# Makes the files that docker-compose.yml takes secrets from, in deploy/secrets/.
#
#   deploy/make-secrets.sh             asks for the API key without showing it
#   deploy/make-secrets.sh < key.txt   takes it from standard input
#
# A file that is there already is left alone: the password is in the database by then.
set -eu
umask 077

folder=$(cd "$(dirname "$0")" && pwd)/secrets
# The user that Expunge has in its image.
owner=10001
mkdir -p "$folder"
chmod 700 "$folder"

# Containers see a secret with the owner and mode that it has here. Root can give it to their user;
# anybody else has to let all users read it, and keeps them out by the folder's own mode.
hand_over() {
  if [ "$(id -u)" = 0 ]; then
    chown "$owner:$owner" "$1"
    chmod 600 "$1"
  else
    chmod 644 "$1"
  fi
}

if [ ! -e "$folder/memos_api_key" ]; then
  if [ -t 0 ]; then
    printf 'API key of MemOS: ' >&2
    trap 'stty echo' EXIT
    stty -echo
    read -r key
    stty echo
    trap - EXIT
    printf '\n' >&2
  else
    read -r key || [ -n "$key" ]
  fi
  if [ -z "$key" ]; then
    echo "No key was given; nothing was made." >&2
    exit 2
  fi
  printf '%s\n' "$key" > "$folder/memos_api_key"
  hand_over "$folder/memos_api_key"
fi

if [ ! -e "$folder/postgres_password" ]; then
  # Hexadecimal, so that it stands in a URL as it is.
  od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "$folder/postgres_password"
  hand_over "$folder/postgres_password"
  rm -f "$folder/expunge_ledger_admin_url"
fi

# The owner makes the tables; the other two have roles of their own, which `expunge db upgrade` makes.
if [ ! -e "$folder/expunge_ledger_admin_url" ]; then
  printf 'postgresql://expunge:%s@postgres:5432/expunge\n' "$(cat "$folder/postgres_password")" \
    > "$folder/expunge_ledger_admin_url"
  hand_over "$folder/expunge_ledger_admin_url"
fi

if [ ! -e "$folder/expunge_ledger_url" ]; then
  printf 'postgresql://expunge_app:%s@postgres:5432/expunge\n' \
    "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" > "$folder/expunge_ledger_url"
  hand_over "$folder/expunge_ledger_url"
fi

if [ ! -e "$folder/expunge_sealer_ledger_url" ]; then
  printf 'postgresql://expunge_sealer:%s@postgres:5432/expunge\n' \
    "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" > "$folder/expunge_sealer_ledger_url"
  hand_over "$folder/expunge_sealer_ledger_url"
fi

echo "Secrets are in $folder; git does not know them. Keep a copy in a safe place." >&2
