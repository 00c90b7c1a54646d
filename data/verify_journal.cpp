#include "data/verify_journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>
#include <nlohmann/json.hpp>

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr auto kSaveEvery = std::chrono::seconds(1);

Status write_all(int file, const std::string& text, const fs::path& path) {
  std::size_t at = 0;
  while (at < text.size()) {
    const auto done = ::write(file, text.data() + at, text.size() - at);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return fail(error_from_errno(errno, "writing " + path.string()));
    at += static_cast<std::size_t>(done);
  }
  return {};
}

// What a journal says, up to its last line {"done": N}.
struct Content {
  std::uint64_t done = 0;
  std::vector<std::string> lines;
  std::size_t bytes = 0;
};

Content read_journal(const fs::path& path, const std::string& subject) {
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  Content content;
  std::vector<std::string> lines;
  for (std::size_t at = 0, end = 0; (end = text.find('\n', at)) != std::string::npos;
       at = end + 1) {
    std::string line = text.substr(at, end - at);
    const json parsed = json::parse(line, nullptr, false);
    if (!parsed.is_object()) break;
    if (at == 0) {
      if (parsed.value("subject", "") != subject) return {};
    } else if (parsed.contains("done") && parsed["done"].is_number_unsigned()) {
      content.done = parsed["done"];
      content.lines = lines;
      content.bytes = end + 1;
    } else {
      lines.push_back(std::move(line));
    }
  }
  return content;
}

}  // namespace

Result<VerifyJournal> VerifyJournal::open(const fs::path& list, const std::string& subject) {
  VerifyJournal journal;
  journal.list_ = list;
  journal.path_ = list.string() + ".partial";
  const auto& path = journal.path_;
  journal.file_ = Descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  const int file = journal.file_.get();
  if (file < 0) return fail(error_from_errno(errno, "opening " + path.string()));
  if (::flock(file, LOCK_EX | LOCK_NB) != 0)
    return fail(Errc::already_exists, path.string() + " is in use: another process verifies into " +
                                          list.string() + "; wait for it, or choose another --out");
  auto content = read_journal(path, subject);
  journal.done_ = journal.saved_done_ = content.done;
  journal.lines_ = std::move(content.lines);
  journal.saved_lines_ = journal.lines_.size();
  if (::ftruncate(file, static_cast<off_t>(content.bytes)) != 0 || ::lseek(file, 0, SEEK_END) < 0)
    return fail(error_from_errno(errno, "opening " + path.string()));
  if (content.bytes == 0)
    CRABCAST_TRY(write_all(
        file,
        json{{"subject", subject}}.dump(-1, ' ', false, json::error_handler_t::replace) + "\n",
        path));
  journal.saved_at_ = Clock::now();
  return journal;
}

Status VerifyJournal::advance(std::uint64_t done) {
  done_ = done;
  return Clock::now() - saved_at_ < kSaveEvery ? Status{} : save();
}

Status VerifyJournal::save() {
  if (done_ == saved_done_) return {};
  std::string text;
  for (; saved_lines_ < lines_.size(); ++saved_lines_) text += lines_[saved_lines_] + "\n";
  text += json{{"done", done_}}.dump() + "\n";
  CRABCAST_TRY(write_all(file_.get(), text, path_));
  saved_done_ = done_;
  saved_at_ = Clock::now();
  return {};
}

Status VerifyJournal::finish() {
  const fs::path complete = list_.string() + ".complete";
  {
    const Descriptor file(::open(complete.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (file.get() < 0) return fail(error_from_errno(errno, "opening " + complete.string()));
    std::string text;
    for (const auto& line : lines_) text += line + "\n";
    CRABCAST_TRY(write_all(file.get(), text, complete));
    if (::fsync(file.get()) != 0)
      return fail(error_from_errno(errno, "writing " + complete.string()));
  }
  std::error_code error;
  fs::rename(complete, list_, error);
  if (!error) fs::remove(path_, error);
  if (error) return fail(error_from_errno(error.value(), "writing " + list_.string()));
  return {};
}

}  // namespace crabcast::data
