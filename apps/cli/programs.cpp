#include "apps/cli/programs.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <vector>

#include "apps/cli/output.h"
#include "apps/cli/verbs.h"

namespace crabcast::apps {

namespace fs = std::filesystem;

Result<fs::path> own_program() {
  std::error_code error;
  const auto path = fs::read_symlink("/proc/self/exe", error);
  if (error) return fail(error_from_errno(error.value(), "finding this program's own path"));
  // After an upgrade the running file has no name any more; the new one stands in its place.
  constexpr std::string_view kDeleted = " (deleted)";
  const std::string text = path.string();
  if (!text.ends_with(kDeleted)) return path;
  return fs::path(text.substr(0, text.size() - kDeleted.size()));
}

Result<fs::path> compute_program() {
  auto own = own_program();
  if (!own) return own;
  auto path = own->parent_path() / "crabcast-compute";
  if (::access(path.c_str(), X_OK) == 0) return path;
  return fail(error_from_errno(
      errno, "crabcast-compute is not beside crabcast, as " + path.string() +
                 "; install both programs into one folder, or build both with ./dev build"));
}

Exit hand_on(const std::vector<std::string>& arguments) {
  auto program = compute_program();
  if (!program) return complain(program.error(), false);
  const std::string name = program->string();
  std::vector<char*> argv{const_cast<char*>(name.c_str())};  // execv does not write to them
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  std::fflush(nullptr);
  ::execv(name.c_str(), argv.data());
  return complain(error_from_errno(errno, "cannot start " + name), false);
}

}  // namespace crabcast::apps
