#include "cluster/keys.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <fstream>
#include <random>
#include <system_error>
#include <utility>

namespace crabcast::cluster {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kKeyLength = 40;  // Z85 text of 32 bytes

Result<std::pair<std::string, std::string>> make_pair_of_keys() {
  std::array<char, kKeyLength + 1> public_key{}, secret_key{};
  if (zmq_curve_keypair(public_key.data(), secret_key.data()) != 0)
    return fail(Errc::unsupported,
                "making a CURVE key pair: libzmq was built without CURVE (libsodium)");
  return std::pair{std::string(public_key.data()), std::string(secret_key.data())};
}

bool is_key(const std::string& text) {
  std::array<std::uint8_t, 32> bytes{};
  return text.size() == kKeyLength && zmq_z85_decode(bytes.data(), text.c_str()) != nullptr;
}

Result<std::string> read_key(const fs::path& file, bool secret) {
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0)
    return fail(error_from_errno(errno, "reading key " + file.string()));
  if (secret && (info.st_mode & 077) != 0)
    return fail(Errc::permission_denied, "key " + file.string() +
                                             " can be read by other users; run chmod 600 on it, "
                                             "or make new keys if it was exposed");
  std::ifstream in(file);
  std::string text;
  if (!std::getline(in, text))
    return fail(Errc::corrupt, "key " + file.string() + " is empty or cannot be read");
  while (!text.empty() && (text.back() == '\r' || text.back() == ' ')) text.pop_back();
  if (!is_key(text))
    return fail(Errc::corrupt, "key " + file.string() + " is not a Z85 key of 40 characters");
  return text;
}

Status check_pair(const std::string& public_key, const std::string& secret_key,
                  const fs::path& file) {
  std::array<char, kKeyLength + 1> derived{};
  if (zmq_curve_public(derived.data(), secret_key.c_str()) != 0 || public_key != derived.data())
    return fail(Errc::corrupt, "key " + file.string() + " does not belong to its secret key");
  return {};
}

Status write_key(const fs::path& file, const std::string& key, mode_t mode) {
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (fd < 0) return fail(error_from_errno(errno, "writing key " + file.string()));
  const std::string line = key + "\n";
  // Synced before the rename: a folder that is in place after a power loss has whole keys.
  const bool written = ::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()) &&
                       ::fsync(fd) == 0;
  const int problem = errno;
  ::close(fd);
  if (!written) return fail(error_from_errno(problem, "writing key " + file.string()));
  return {};
}

Status write_keyring(const fs::path& folder, const Keyring& keys) {
  CRABCAST_TRY(write_key(folder / "server.public", keys.server_public, 0644));
  CRABCAST_TRY(write_key(folder / "server.secret", keys.server_secret, 0600));
  CRABCAST_TRY(write_key(folder / "client.public", keys.client_public, 0644));
  CRABCAST_TRY(write_key(folder / "client.secret", keys.client_secret, 0600));
  std::error_code problem;
  fs::create_directory(folder / "authorized", problem);
  if (problem)
    return fail(error_from_errno(problem.value(), "making " + (folder / "authorized").string()));
  return write_key(folder / "authorized" / "local.public", keys.client_public, 0644);
}

Result<std::set<std::string>> read_authorized(const fs::path& folder) {
  std::set<std::string> keys;
  std::error_code problem;
  fs::directory_iterator entry(folder, problem);
  if (problem == std::errc::no_such_file_or_directory) return keys;
  for (; !problem && entry != fs::directory_iterator(); entry.increment(problem)) {
    if (entry->path().extension() != ".public") continue;
    auto key = read_key(entry->path(), false);
    if (!key) return fail(key.error());
    keys.insert(std::move(*key));
  }
  if (problem) return fail(error_from_errno(problem.value(), "reading " + folder.string()));
  return keys;
}

}  // namespace

Result<Keyring> make_keyring() {
  auto server = make_pair_of_keys();
  if (!server) return fail(server.error());
  auto client = make_pair_of_keys();
  if (!client) return fail(client.error());
  Keyring keys;
  std::tie(keys.server_public, keys.server_secret) = *server;
  std::tie(keys.client_public, keys.client_secret) = *client;
  keys.authorized.insert(keys.client_public);
  return keys;
}

Result<Keyring> load_keyring(const fs::path& folder) {
  std::error_code problem;
  if (!fs::is_directory(folder, problem))
    return fail(Errc::not_found, "no keyring in " + folder.string() +
                                     "; copy it from the machine of the controller");
  Keyring keys;
  const auto take = [&folder](const char* name, bool secret, std::string& into) -> Status {
    auto key = read_key(folder / name, secret);
    if (!key) return fail(key.error());
    into = std::move(*key);
    return {};
  };
  CRABCAST_TRY(take("server.public", false, keys.server_public));
  CRABCAST_TRY(take("client.public", false, keys.client_public));
  CRABCAST_TRY(take("client.secret", true, keys.client_secret));
  CRABCAST_TRY(check_pair(keys.client_public, keys.client_secret, folder / "client.public"));
  if (fs::exists(folder / "server.secret", problem)) {
    CRABCAST_TRY(take("server.secret", true, keys.server_secret));
    CRABCAST_TRY(check_pair(keys.server_public, keys.server_secret, folder / "server.public"));
  }
  auto authorized = read_authorized(folder / "authorized");
  if (!authorized) return fail(authorized.error());
  keys.authorized = std::move(*authorized);
  return keys;
}

Result<Keyring> load_or_create_keyring(const fs::path& folder) {
  auto there = load_keyring(folder);
  if (there || there.error().code != Errc::not_found) {
    std::error_code ignored;
    if (there || !fs::is_empty(folder, ignored)) return there;
  }
  auto keys = make_keyring();
  if (!keys) return keys;

  std::error_code problem;
  if (folder.has_parent_path()) fs::create_directories(folder.parent_path(), problem);
  if (problem)
    return fail(error_from_errno(problem.value(), "making " + folder.parent_path().string()));
  const fs::path draft = folder.string() + ".new." + std::to_string(::getpid()) + "." +
                         std::to_string(std::random_device{}());
  if (::mkdir(draft.c_str(), 0700) != 0)
    return fail(error_from_errno(errno, "making " + draft.string()));
  auto written = write_keyring(draft, *keys);
  if (written && ::rename(draft.c_str(), folder.c_str()) == 0) return keys;
  const int rename_problem = errno;
  fs::remove_all(draft, problem);
  if (!written) return fail(written.error());
  // Another process put its keyring there first: that one counts.
  if (rename_problem == ENOTEMPTY || rename_problem == EEXIST) return load_keyring(folder);
  return fail(error_from_errno(rename_problem, "making " + folder.string()));
}

}  // namespace crabcast::cluster
