// completion: a bash function, made from the tree of verbs that also parses and prints help.
#include <CLI/CLI.hpp>

#include "apps/cli/output.h"
#include "apps/cli/verbs.h"
#include "protocol/format.h"

namespace crabcast::apps {
namespace {

// What is offered for an argument or for the value of an option, by the name of its type.
std::string kind_of(const std::string& type_name) {
  if (type_name == "JOB") return "job";
  if (type_name == "FILE") return "file";
  if (type_name == "DIR") return "dir";
  return "none";
}

std::vector<const CLI::App*> visible_verbs(const CLI::App& parent) {
  return parent.get_subcommands([](const CLI::App* app) { return !app->get_group().empty(); });
}

struct Tables {
  std::string verbs;    // case lines: a path of verbs -> the verbs below it
  std::string options;  // a path -> its options
  std::string values;   // a path and an option that takes a value -> kind of the value
  std::string kinds;    // a path -> kinds of its arguments, in order
};

std::string case_line(const std::string& pattern, const std::string& variable,
                      const std::string& value) {
  return "    '" + pattern + "') " + variable + "='" + value + "' ;;\n";
}

// `path` is "" for the program, then " ckpt", " ckpt ls", ...
void fill(Tables& tables, const CLI::App& at, const std::string& path) {
  std::vector<std::string> verbs, options, kinds;
  for (const CLI::App* verb : visible_verbs(at)) {
    verbs.push_back(verb->get_name());
    fill(tables, *verb, path + " " + verb->get_name());
  }
  for (const CLI::Option* option : at.get_options()) {
    if (option->get_positional()) {
      kinds.push_back(kind_of(option->get_type_name()));
      continue;
    }
    std::vector<std::string> names;
    for (const auto& name : option->get_snames()) names.push_back("-" + name);
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
    for (const auto& name : names) {
      options.push_back(name);
      if (option->get_items_expected_max() > 0)
        tables.values += case_line(path + " " + name, "kind", kind_of(option->get_type_name()));
    }
  }
  if (!verbs.empty()) tables.verbs += case_line(path, "verbs", join_names(verbs, " "));
  if (!options.empty()) tables.options += case_line(path, "options", join_names(options, " "));
  if (!kinds.empty()) tables.kinds += case_line(path, "kinds", join_names(kinds, " "));
}

constexpr auto kHead = R"bash(# bash completion for crabcast, made by `crabcast completion bash`

# Sets kind to that of the value that the option takes; empty for one that takes none.
_crabcast_value_of() {
  kind=
  case "$1 $2" in
)bash";

constexpr auto kVerbs = R"bash(  esac
}

# Sets verbs, options and kinds (of arguments) to those of a path of verbs such as " ckpt ls".
_crabcast_at() {
  verbs= options= kinds=
  case "$1" in
)bash";

constexpr auto kCaseEnd = R"bash(  esac
)bash";

constexpr auto kNextCase = R"bash(  case "$1" in
)bash";

constexpr auto kTail = R"bash(}

# Job ids of the controller, or of the stored state.
_crabcast_jobs() {
  "$@" ps --all --json --quiet 2>/dev/null |
    sed -n 's/^ *"job": "\([^"]*\)",\{0,1\}$/\1/p' | sort -u
}

_crabcast() {
  local current=${COMP_WORDS[COMP_CWORD]} path='' pending='' option='' word i
  local kind verbs options kinds
  local -a program=("${COMP_WORDS[0]/#\~/$HOME}") arguments=()
  COMPREPLY=()
  [[ $current == '=' ]] && current=
  _crabcast_at "$path"
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    [[ $word == '=' ]] && continue
    if [[ -n $pending ]]; then
      [[ $option == --state || $option == --controller ]] && program+=("$option" "$word")
      pending=
    elif [[ $word == -* ]]; then
      option=$word
      _crabcast_value_of "$path" "$word"
      pending=$kind
    elif [[ -n $verbs ]]; then
      path+=" $word"
      _crabcast_at "$path"
    else
      arguments+=("$word")
    fi
  done
  if [[ -n $pending ]]; then
    kind=$pending
  elif [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
    return
  elif [[ -n $verbs ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$verbs" -- "$current")
    return
  else
    local -a all=($kinds)
    kind=${all[${#arguments[@]}]-none}
  fi
  case $kind in
    job) mapfile -t COMPREPLY < <(compgen -W "$(_crabcast_jobs "${program[@]}")" -- "$current") ;;
    file)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      ;;
    dir)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -d -- "$current")
      ;;
  esac
}
complete -F _crabcast crabcast
)bash";

}  // namespace

Exit completion(const CLI::App& root, const std::string& shell) {
  if (shell != "bash")
    return complain({Errc::unsupported, "completion is for bash, not for '" + shell + "'"}, false);
  Tables tables;
  fill(tables, root, "");
  print_text(kHead + tables.values + kVerbs + tables.verbs + kCaseEnd + kNextCase + tables.options +
             kCaseEnd + kNextCase + tables.kinds + kCaseEnd + kTail);
  return Exit::ok;
}

}  // namespace crabcast::apps
