// Who may use the gateway: bearer tokens with a role and an owner's name (docs/http-api.md).
//
// The file STATE/tokens holds hashes only; a token itself is shown once, when it is made. It has
// 192 random bits, so a plain SHA-256 of it cannot be searched; nothing is gained by a slow hash.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "protocol/error.h"

namespace crabcast::gateway {

// Each may do all that the ones before it may.
enum class Role {
  anyone,     // no token needed
  viewer,     // reads everything
  submitter,  // submits, and acts on the jobs of its owner
  admin,      // acts on all jobs, nodes and the policy
};
std::string_view to_string(Role role);
std::optional<Role> role_from_name(std::string_view name);  // of those that a token can have

struct Token {
  std::string name;   // unique in the file; what ls shows and revoke takes
  std::string owner;  // of the jobs that it submits
  Role role = Role::viewer;
  std::string hash;  // SHA-256 of the token, in hex
  std::int64_t created_unix_ms = 0;
};

// A new random token, for example "crabcast_5pXc...".
Result<std::string> make_token();
std::string hash_token(std::string_view token);

// not_found when there is no file; permission_denied when others than its owner can read it;
// invalid_argument, with the line, for one that cannot be understood.
Result<std::vector<Token>> read_tokens(const std::filesystem::path& file);
// What such a file holds; it is written as a whole, with mode 0600.
std::string tokens_text(const std::vector<Token>& tokens);
// A name or owner is 1 to 63 letters, digits, '.', '_', '-', '@'.
Status check_token_name(const std::string& what, const std::string& name);

// Who asks.
struct Caller {
  Role role = Role::anyone;
  std::string name;   // of the token; empty without one
  std::string owner;  // empty: nobody's jobs
  std::string hash;   // of the token
};

// The tokens that are valid now. The file is looked at with each call, so that a token that was
// revoked stops working at once. From any thread.
class TokenBook {
 public:
  // Without a file, everybody is admin when `open` is set (a loopback address, docs/http-api.md),
  // as long as there never was one.
  TokenBook(std::filesystem::path file, bool open) : file_(std::move(file)), open_(open) {}

  // `bearer` is what came after "Bearer ", empty when nothing did. unauthenticated; unavailable
  // when the file cannot be read, for then nobody is let in.
  Result<Caller> caller(std::string_view bearer);
  // The token of a caller is valid still: for what takes longer than a request.
  bool still_valid(const Caller& caller);
  bool has_file();

 private:
  struct Stamp {
    std::int64_t seconds = 0, nanoseconds = 0;
    std::uint64_t inode = 0, size = 0;
    friend bool operator==(const Stamp&, const Stamp&) = default;
  };
  void look();

  const std::filesystem::path file_;
  const bool open_;
  std::mutex mutex_;  // guards what follows
  std::optional<Stamp> seen_;
  bool had_file_ = false;
  Result<std::vector<Token>> tokens_ = std::vector<Token>{};
};

}  // namespace crabcast::gateway
