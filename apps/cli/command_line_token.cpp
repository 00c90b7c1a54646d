// The command line's part about the HTTP gateway.
#include "apps/cli/command_line.h"

namespace crabcast::apps {

void CommandLine::takes_http(CLI::App* verb, std::string& into) {
  verb->add_option("--http", into,
                   "Serve dashboard, JSON API and metrics there, such as 127.0.0.1:8080 (default: "
                   "nowhere)")
      ->type_name("HOST:PORT");
}

void CommandLine::add_token_verbs() {
  auto* token = verb(app_, "token", "Say who may use the controller's HTTP gateway",
                     "  crabcast token add alice --role submitter --owner alice\n"
                     "  crabcast token ls",
                     {});
  auto* add = verb(*token, "add", "Make a token and print it, this once",
                   "  crabcast token add alice --role submitter --owner alice",
                   [this] { return apps::token_add(common_, token_); });
  add->add_option("name", token_.name, "Name of the token")->required()->type_name("NAME");
  add->add_option("--role", token_.role,
                  "viewer: reads; submitter: and acts on its own jobs; admin: on all")
      ->type_name("ROLE")
      ->capture_default_str();
  add->add_option("--owner", token_.owner, "Whose its jobs are (default: NAME)")
      ->type_name("OWNER");
  auto* list = verb(*token, "ls", "List the tokens", "  crabcast token ls",
                    [this] { return apps::token_ls(common_); });
  auto* revoke = verb(*token, "revoke", "Take a token away; it stops working at once",
                      "  crabcast token revoke alice",
                      [this] { return apps::token_revoke(common_, token_.name); });
  revoke->add_option("name", token_.name, "Name of the token")->required()->type_name("NAME");
  for (auto* one : {add, list, revoke}) {
    takes_json(one);
    takes_state(one);
  }
}

}  // namespace crabcast::apps
