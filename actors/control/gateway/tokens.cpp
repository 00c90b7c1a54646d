#include "actors/control/gateway/tokens.h"

#include <sodium.h>
#include <sys/stat.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <sstream>

namespace crabcast::gateway {
namespace {

constexpr std::array<std::string_view, 4> kRoles = {"anyone", "viewer", "submitter", "admin"};
constexpr std::size_t kSecretBytes = 24;
constexpr std::size_t kHashHex = 2 * crypto_hash_sha256_BYTES;

Result<Token> read_token(const YAML::Node& node) {
  Token token;
  token.name = node["name"].as<std::string>("");
  token.owner = node["owner"].as<std::string>("");
  token.hash = node["sha256"].as<std::string>("");
  token.created_unix_ms = node["created_unix_ms"].as<std::int64_t>(0);
  const auto at = " (line " + std::to_string(node.Mark().line + 1) + ")";
  const auto role = role_from_name(node["role"].as<std::string>(""));
  if (!role) return fail(Errc::invalid_argument, "role is viewer, submitter or admin" + at);
  token.role = *role;
  for (const auto& [what, name] : {std::pair{"name", token.name}, {"owner", token.owner}})
    if (const Status good = check_token_name(what, name); !good)
      return fail(Errc::invalid_argument, good.error().message + at);
  const auto hex = [](unsigned char c) { return std::isdigit(c) || (c >= 'a' && c <= 'f'); };
  if (token.hash.size() != kHashHex || !std::all_of(token.hash.begin(), token.hash.end(), hex))
    return fail(Errc::invalid_argument, "sha256 is 64 hexadecimal digits" + at);
  return token;
}

Result<std::vector<Token>> parse_tokens(const std::string& text) try {
  const YAML::Node root = YAML::Load(text);
  if (!root.IsMap() || root["crabcast_tokens"].as<int>(0) != 1 || !root["tokens"] ||
      !(root["tokens"].IsSequence() || root["tokens"].IsNull()))
    return fail(Errc::invalid_argument, "is no list of tokens of version 1");
  std::vector<Token> tokens;
  for (const auto& node : root["tokens"]) {
    auto token = read_token(node);
    if (!token) return fail(token.error());
    for (const auto& other : tokens)
      if (other.name == token->name)
        return fail(Errc::invalid_argument, "two tokens are named " + token->name);
    tokens.push_back(std::move(*token));
  }
  return tokens;
} catch (const YAML::Exception& error) {
  return fail(Errc::invalid_argument, "is no YAML: " + std::string(error.what()));
}

}  // namespace

std::string_view to_string(Role role) {
  return kRoles[static_cast<std::size_t>(role)];
}

std::optional<Role> role_from_name(std::string_view name) {
  for (std::size_t i = 1; i < kRoles.size(); ++i)
    if (kRoles[i] == name) return static_cast<Role>(i);
  return {};
}

Result<std::string> make_token() {
  if (sodium_init() < 0) return fail(Errc::internal, "libsodium has no source of random numbers");
  std::array<unsigned char, kSecretBytes> bytes{};
  randombytes_buf(bytes.data(), bytes.size());
  std::string text(
      sodium_base64_ENCODED_LEN(kSecretBytes, sodium_base64_VARIANT_URLSAFE_NO_PADDING), '\0');
  sodium_bin2base64(text.data(), text.size(), bytes.data(), bytes.size(),
                    sodium_base64_VARIANT_URLSAFE_NO_PADDING);
  text.pop_back();  // the terminator
  return "crabcast_" + text;
}

std::string hash_token(std::string_view token) {
  std::array<unsigned char, crypto_hash_sha256_BYTES> hash{};
  crypto_hash_sha256(hash.data(), reinterpret_cast<const unsigned char*>(token.data()),
                     token.size());
  std::string hex(kHashHex + 1, '\0');
  sodium_bin2hex(hex.data(), hex.size(), hash.data(), hash.size());
  hex.pop_back();
  return hex;
}

Status check_token_name(const std::string& what, const std::string& name) {
  const bool good = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '.' || c == '_' || c == '-' || c == '@';
  });
  if (good && !name.empty() && name.size() < 64) return {};
  return fail(Errc::invalid_argument, what + " has 1 to 63 letters, digits, '.', '_', '-' and '@'");
}

Result<std::vector<Token>> read_tokens(const std::filesystem::path& file) {
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0)
    return fail(errno == ENOENT ? Error{Errc::not_found, "there is no " + file.string()}
                                : error_from_errno(errno, file.string()));
  if ((info.st_mode & 077) != 0)
    return fail(Errc::permission_denied,
                file.string() + " can be read by others; chmod 600 " + file.string());
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  if (!in) return fail(error_from_errno(errno, "cannot read " + file.string()));
  auto tokens = parse_tokens(text.str());
  if (!tokens) return fail(tokens.error().within(file.string()));
  return tokens;
}

std::string tokens_text(const std::vector<Token>& tokens) {
  YAML::Emitter out;
  out << YAML::BeginMap << YAML::Key << "crabcast_tokens" << YAML::Value << 1 << YAML::Key
      << "tokens" << YAML::Value << YAML::BeginSeq;
  for (const auto& token : tokens)
    out << YAML::BeginMap << YAML::Key << "name" << YAML::Value << token.name << YAML::Key
        << "owner" << YAML::Value << token.owner << YAML::Key << "role" << YAML::Value
        << std::string(to_string(token.role)) << YAML::Key << "sha256" << YAML::Value << token.hash
        << YAML::Key << "created_unix_ms" << YAML::Value << token.created_unix_ms << YAML::EndMap;
  out << YAML::EndSeq << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

// ---- the tokens that are valid now
// ---------------------------------------------------------------

void TokenBook::look() {
  struct stat info {};
  if (::stat(file_.c_str(), &info) != 0) {
    seen_.reset();
    // A file that went away locks everybody out; it does not let everybody in.
    tokens_ = std::vector<Token>{};
    return;
  }
  const Stamp now{info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_ino,
                  static_cast<std::uint64_t>(info.st_size)};
  had_file_ = true;
  if (seen_ == now && tokens_) return;
  seen_ = now;
  tokens_ = read_tokens(file_);
}

Result<Caller> TokenBook::caller(std::string_view bearer) {
  const std::scoped_lock lock(mutex_);
  look();
  if (!had_file_ && open_) return Caller{Role::admin, "", "", ""};
  if (!tokens_)
    return fail(Errc::unavailable,
                "nobody is let in until the tokens can be read: " + tokens_.error().message);
  if (bearer.empty())
    return fail(Errc::unauthenticated,
                "a token is needed: send the header Authorization: Bearer TOKEN; crabcast token "
                "add makes one");
  const std::string hash = hash_token(bearer);
  const Token* found = nullptr;
  for (const auto& token : *tokens_)  // all of them, in constant time each
    if (sodium_memcmp(token.hash.data(), hash.data(), kHashHex) == 0) found = &token;
  if (!found)
    return fail(Errc::unauthenticated, "the token is unknown or was revoked; ask for a new one");
  return Caller{found->role, found->name, found->owner, found->hash};
}

bool TokenBook::still_valid(const Caller& caller) {
  const std::scoped_lock lock(mutex_);
  look();
  if (caller.name.empty()) return !had_file_ && open_;
  if (!tokens_) return false;
  return std::any_of(tokens_->begin(), tokens_->end(), [&](const Token& token) {
    return token.hash == caller.hash && token.role == caller.role;
  });
}

bool TokenBook::has_file() {
  const std::scoped_lock lock(mutex_);
  look();
  return had_file_;
}

}  // namespace crabcast::gateway
