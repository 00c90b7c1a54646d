// `crabcast token`: who may use the controller's HTTP gateway. The file is read by the gateway with
// each request, so that nothing needs to be told to it.
#include <algorithm>

#include "actors/control/gateway/tokens.h"
#include "actors/control/state_folder.h"
#include "apps/cli/output.h"
#include "apps/cli/verbs.h"
#include "protocol/clock.h"
#include "protocol/format.h"
#include "storage/files.h"

namespace crabcast::apps {
namespace {

using gateway::Token;

std::filesystem::path file_of(const Common& common) {
  return actors::StateFolder{common.state}.tokens();
}

// Those of the file; none when there is no file.
Result<std::vector<Token>> known_tokens(const std::filesystem::path& file) {
  auto tokens = gateway::read_tokens(file);
  if (!tokens && tokens.error().code == Errc::not_found) return std::vector<Token>{};
  return tokens;
}

Status write(const std::filesystem::path& file, const std::vector<gateway::Token>& tokens) {
  return storage::replace_file(file, gateway::tokens_text(tokens), 0600);
}

}  // namespace

Exit token_add(const Common& common, const TokenOptions& options) {
  const auto file = file_of(common);
  Token token;
  token.name = options.name;
  token.owner = options.owner.empty() ? options.name : options.owner;
  token.created_unix_ms = unix_ms_now();
  for (const auto& [what, name] :
       {std::pair{"a token's name", token.name}, {"an owner", token.owner}})
    if (const Status good = gateway::check_token_name(what, name); !good)
      return complain(good.error(), common.json);
  const auto role = gateway::role_from_name(options.role);
  if (!role)
    return complain({Errc::invalid_argument,
                     "--role is viewer, submitter or admin, not '" + excerpt(options.role) + "'"},
                    common.json);
  token.role = *role;
  auto tokens = known_tokens(file);
  if (!tokens) return complain(tokens.error(), common.json);
  for (const auto& other : *tokens)
    if (other.name == token.name)
      return complain({Errc::already_exists, "there is a token " + token.name +
                                                 " already; crabcast token revoke " + token.name +
                                                 " takes it away"},
                      common.json);
  const auto secret = gateway::make_token();
  if (!secret) return complain(secret.error(), common.json);
  token.hash = gateway::hash_token(*secret);
  tokens->push_back(token);
  std::error_code error;
  std::filesystem::create_directories(file.parent_path(), error);
  if (const Status written = write(file, *tokens); !written)
    return complain(written.error(), common.json);
  if (common.json) {
    print_json({{"name", token.name},
                {"owner", token.owner},
                {"role", gateway::to_string(token.role)},
                {"token", *secret}});
    return Exit::ok;
  }
  note("this is shown once; only its hash is kept, in " + file.string(), common.quiet);
  print_text(*secret + "\n");
  return Exit::ok;
}

Exit token_ls(const Common& common) {
  const auto tokens = known_tokens(file_of(common));
  if (!tokens) return complain(tokens.error(), common.json);
  std::vector<std::vector<std::string>> rows;
  auto list = nlohmann::json::array();
  for (const auto& token : *tokens) {
    rows.push_back({token.name, std::string(gateway::to_string(token.role)), token.owner,
                    time_text(token.created_unix_ms)});
    list.push_back({{"name", token.name},
                    {"role", gateway::to_string(token.role)},
                    {"owner", token.owner},
                    {"created_unix_ms", token.created_unix_ms}});
  }
  if (common.json)
    print_json({{"tokens", list}});
  else
    print_text(format_table({"NAME", "ROLE", "OWNER", "CREATED"}, rows));
  return Exit::ok;
}

Exit token_revoke(const Common& common, const std::string& name) {
  const auto file = file_of(common);
  auto tokens = known_tokens(file);
  if (!tokens) return complain(tokens.error(), common.json);
  if (std::erase_if(*tokens, [&](const Token& token) { return token.name == name; }) == 0)
    return complain(
        {Errc::not_found, "there is no token " + excerpt(name) + "; crabcast token ls lists them"},
        common.json);
  if (const Status written = write(file, *tokens); !written)
    return complain(written.error(), common.json);
  note("revoked " + name, common.quiet);
  return Exit::ok;
}

}  // namespace crabcast::apps
