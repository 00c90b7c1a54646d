// adapter export: a file is left to crabcast-compute. The adapter of a checkpoint goes through a
// pipe to crabcast-compute, which knows tensors and their files; this program knows stores.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <span>

#include "apps/cli/checkpoint_source.h"
#include "apps/cli/output.h"
#include "apps/cli/programs.h"
#include "apps/cli/verbs.h"
#include "protocol/format.h"
#include "storage/stored_spec.h"

extern char** environ;

namespace crabcast::apps {
namespace {

using storage::JobStore;

// crabcast-compute with a pipe to its stdin.
class ComputeProgram {
 public:
  static Result<ComputeProgram> start(const std::vector<std::string>& arguments) {
    auto program = compute_program();
    if (!program) return fail(program.error());
    const std::string name = program->string();
    std::vector<char*> argv{const_cast<char*>(name.c_str())};  // posix_spawn does not write to them
    for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return fail(error_from_errno(errno, "making a pipe"));
    ComputeProgram started;
    started.input_ = ends[1];
    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_adddup2(&files, ends[0], STDIN_FILENO);
    const int error =
        ::posix_spawn(&started.pid_, name.c_str(), &files, nullptr, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&files);
    ::close(ends[0]);
    if (error != 0) return fail(error_from_errno(error, "cannot start " + name));
    return started;
  }
  ComputeProgram(ComputeProgram&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), input_(std::exchange(other.input_, -1)) {}
  ComputeProgram& operator=(ComputeProgram&&) = delete;
  ~ComputeProgram() { finish(); }

  // False when it no longer reads: it has said why on stderr.
  bool write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(input_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return false;
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return true;
  }
  bool write_text(const std::string& text) {
    const std::uint64_t length = text.size();
    return write(std::as_bytes(std::span(&length, 1))) && write(std::as_bytes(std::span(text)));
  }
  // Ends its input and waits; its exit code.
  int finish() {
    if (input_ >= 0) ::close(std::exchange(input_, -1));
    int status = 0;
    while (pid_ > 0 && ::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : static_cast<int>(Exit::failed);
  }

 private:
  ComputeProgram() = default;
  pid_t pid_ = -1;
  int input_ = -1;
};

// Up to the end of the adapter, which a checkpoint begins with.
std::uint64_t adapter_bytes(const pb::CheckpointManifest& manifest) {
  std::uint64_t end = 0;
  for (const auto& tensor : manifest.tensors())
    if (tensor.name().starts_with("adapter/"))
      end = std::max(end, tensor.offset() + tensor.bytes());
  return end;
}

Result<int> export_adapter(const OpenedCheckpoint& opened, const AdapterExportOptions& options,
                           bool json) {
  const auto& manifest = opened.manifest;
  const auto spec = storage::newest_spec(*opened.store);  // what the adapter is never changes
  if (!spec) return fail(spec.error());
  if (!*spec) return fail(Errc::corrupt, "the job's store does not hold its spec");
  std::vector<std::string> arguments = {"adapter",  "export",       "--checkpoint-on-stdin",
                                        "--format", options.format, "--out",
                                        options.out};
  if (json) arguments.emplace_back("--json");
  auto program = ComputeProgram::start(arguments);
  if (!program) return fail(program.error());
  bool reads = program->write_text(manifest.SerializeAsString()) && program->write_text(**spec);
  std::uint64_t left = adapter_bytes(manifest);
  const auto visit = [&](const pb::ChunkEntry&, std::span<const std::byte> bytes) {
    const auto count = std::min<std::uint64_t>(left, bytes.size());
    reads = reads && program->write(bytes.first(count));
    left -= count;
    return reads && left > 0;
  };
  if (const Status read = opened.store->for_each_chunk(CheckpointId{manifest.id()}, visit); !read)
    complain(read.error(), false);  // the other program ends with an error, too
  return program->finish();
}

Exit export_file(const AdapterExportOptions& options, bool json) {
  std::vector<std::string> arguments = {"adapter", "export", options.path};
  for (const auto& [name, value] : {std::pair("--format", options.format),
                                    {"--out", options.out},
                                    {"--kind", options.kind},
                                    {"--alpha", options.alpha},
                                    {"--dropout", options.dropout}})
    if (!value.empty()) arguments.insert(arguments.end(), {name, value});
  if (json) arguments.emplace_back("--json");
  return hand_on(arguments);
}

}  // namespace

Exit adapter_export(const Common& common, const AdapterExportOptions& options) {
  if (!options.path.empty()) return export_file(options, common.json);
  ::signal(SIGPIPE, SIG_IGN);  // who no longer reads has said why
  const auto opened = open_checkpoint(common, options.job, options.store, options.checkpoint);
  if (!opened) return complain(opened.error(), common.json);
  const auto code = export_adapter(*opened, options, common.json);
  if (!code) return complain(code.error(), common.json);
  return static_cast<Exit>(*code);
}

}  // namespace crabcast::apps
