// CURVE keys of one cluster (invariant A-1).
//
// A keyring folder holds server.public, server.secret (processes that listen), client.public,
// client.secret (processes that connect) and authorized/NAME.public (client keys that are let in).
// server.secret and authorized/ may be missing on a machine that only connects.
// Files with secrets have mode 0600. Keys are Z85 text, one line a file.
#pragma once

#include <filesystem>
#include <set>
#include <string>

#include "protocol/error.h"

namespace crabcast::cluster {

struct Keyring {
  std::string server_public, server_secret;
  std::string client_public, client_secret;
  std::set<std::string> authorized;  // client public keys
};

// Reads the folder; makes it, with fresh keys, when it is not there. Safe when two processes start
// at once (the first to rename its folder into place wins).
Result<Keyring> load_or_create_keyring(const std::filesystem::path& folder);
// Reads the folder; not_found when there is none, permission_denied when a secret is readable by
// others, corrupt when a file does not hold a key or a public key does not belong to its secret
// one.
Result<Keyring> load_keyring(const std::filesystem::path& folder);
// A keyring that is in no file and that nobody knows: for tests.
Result<Keyring> make_keyring();

}  // namespace crabcast::cluster
