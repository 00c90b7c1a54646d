#include "data/row_scan.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <string>

namespace crabcast::data {
namespace {

constexpr std::size_t kChunkBytes = 1ULL << 20;
constexpr std::size_t kDeepest = 256;  // brackets inside brackets
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// Takes the file in pieces. Brackets match, and only strings can hide them: nothing more of JSON is
// needed to find where a row begins and ends.
class RowScanner {
 public:
  RowScanner(const std::filesystem::path& path, const std::function<Status(const RowText&)>& visit)
      : path_(path), visit_(visit) {}

  Status take(std::string_view chunk) {
    for (const char c : chunk) {
      CRABCAST_TRY(open_.empty() ? outside(c) : inside(c));
      ++at_;
      if (c == '\n') ++line_, line_begin_ = at_;
    }
    return {};
  }

  Status end() {
    if (!open_.empty())
      return wrong("broken JSON: the file ends inside the row that begins in line " +
                   std::to_string(row_.line));
    if (expected_ == Expected::array) return wrong("broken JSON: the file is empty");
    if (expected_ != Expected::nothing) return wrong("broken JSON: the file ends without \"]\"");
    return {};
  }

 private:
  enum class Expected { array, row_or_end, comma_or_end, row, nothing };

  Status outside(char c) {
    if (is_blank(c)) return {};
    if (at_ < kByteOrderMark.size() && c == kByteOrderMark[at_]) return {};
    switch (expected_) {
      case Expected::array:
        if (c != '[') return wrong("expected an array of objects: [{...}, ...]");
        expected_ = Expected::row_or_end;
        return {};
      case Expected::comma_or_end:
        if (c != ',' && c != ']') return wrong("broken JSON: expected \",\" or \"]\"");
        expected_ = c == ',' ? Expected::row : Expected::nothing;
        return {};
      case Expected::row_or_end:
        if (c == ']') {
          expected_ = Expected::nothing;
          return {};
        }
        [[fallthrough]];
      case Expected::row:
        return begin_row(c);
      case Expected::nothing:
        return wrong("broken JSON: something follows the end of the array");
    }
    return {};
  }

  Status begin_row(char c) {
    if (c == '"') return wrong("expected an object, not a text");
    if (c == '[') return wrong("expected an object, not an array");
    if (c == ']' || c == ',') return wrong("broken JSON: expected an object");
    if (c != '{') return wrong("expected an object");
    row_ = {at_, line_, at_ - line_begin_ + 1, {}};
    text_.assign(1, c);
    open_.push_back('}');
    return {};
  }

  Status inside(char c) {
    text_.push_back(c);
    if (in_string_) {
      if (escaped_)
        escaped_ = false;
      else if (c == '\\')
        escaped_ = true;
      else if (c == '"')
        in_string_ = false;
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      if (open_.size() >= kDeepest) return wrong("broken JSON: too many brackets in brackets");
      open_.push_back(c == '{' ? '}' : ']');
    } else if (c == '}' || c == ']') {
      if (open_.back() != c)
        return wrong(std::string("broken JSON: expected \"") + open_.back() +
                     "\" for the row of line " + std::to_string(row_.line));
      open_.pop_back();
      if (open_.empty()) return end_row();
    }
    if (text_.size() > kMaxRowBytes)
      return wrong("the row that begins in line " + std::to_string(row_.line) +
                   " is longer than 16 MiB");
    return {};
  }

  Status end_row() {
    expected_ = Expected::comma_or_end;
    row_.text = text_;
    return visit_(row_);
  }

  [[nodiscard]] tl::unexpected<Error> wrong(const std::string& what) const {
    return fail(Errc::data_error, path_.string() + ":" + std::to_string(line_) + ":" +
                                      std::to_string(at_ - line_begin_ + 1) + ": " + what);
  }

  const std::filesystem::path& path_;
  const std::function<Status(const RowText&)>& visit_;
  Expected expected_ = Expected::array;
  std::string open_;  // the closing brackets that are due
  bool in_string_ = false, escaped_ = false;
  std::string text_;  // of the row so far
  RowText row_;
  std::uint64_t at_ = 0, line_ = 1, line_begin_ = 0;
};

// Accepts everything and keeps nothing but the first error.
struct Validator : nlohmann::json_sax<nlohmann::json> {
  std::size_t error_byte = 0;
  std::string error;
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return true; }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool key(string_t&) override { return true; }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& problem) override {
    error_byte = position;
    // "[json.exception...] parse error at line 2, column 7: what is wrong"
    error = problem.what();
    if (const auto colon = error.find(": "); colon != std::string::npos) error.erase(0, colon + 2);
    return false;
  }
};

}  // namespace

Status scan_rows(int descriptor, const std::filesystem::path& path,
                 const std::function<Status(const RowText&)>& visit) {
  RowScanner scanner(path, visit);
  std::string chunk(kChunkBytes, '\0');
  for (std::uint64_t at = 0;;) {
    const auto got = ::pread(descriptor, chunk.data(), chunk.size(), static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(error_from_errno(errno, path.string()));
    if (got == 0) return scanner.end();
    CRABCAST_TRY(scanner.take({chunk.data(), static_cast<std::size_t>(got)}));
    at += static_cast<std::uint64_t>(got);
  }
}

Status scan_rows(const std::filesystem::path& path,
                 const std::function<Status(const RowText&)>& visit) {
  const auto descriptor = open_regular(path);
  if (!descriptor) return fail(descriptor.error());
  return scan_rows(descriptor->get(), path, visit);
}

Status check_row(const std::filesystem::path& path, const RowText& row) {
  Validator validator;
  if (nlohmann::json::sax_parse(row.text, &validator)) return {};
  const auto byte = validator.error_byte == 0 ? 0 : validator.error_byte - 1;
  const auto before = row.text.substr(0, std::min(byte, row.text.size()));
  const auto newline = before.rfind('\n');
  const bool first_line = newline == std::string_view::npos;
  const auto line =
      row.line + static_cast<std::uint64_t>(std::count(before.begin(), before.end(), '\n'));
  const auto column = first_line ? row.column + before.size() : before.size() - newline;
  return fail(Errc::data_error, path.string() + ":" + std::to_string(line) + ":" +
                                    std::to_string(column) + ": broken JSON: " + validator.error);
}

Status read_exactly(int descriptor, char* to, std::size_t size, std::uint64_t from,
                    const std::filesystem::path& path) {
  while (size > 0) {
    const auto got = ::pread(descriptor, to, size, static_cast<off_t>(from));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(error_from_errno(errno, path.string()));
    if (got == 0) return fail(Errc::data_error, path.string() + ": shrank while it was read");
    to += got;
    from += static_cast<std::uint64_t>(got);
    size -= static_cast<std::size_t>(got);
  }
  return {};
}

Result<Descriptor> open_regular(const std::filesystem::path& path) {
  // O_NONBLOCK: a FIFO must not hang the caller.
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0)
    return fail(error_from_errno(errno, path.string()));
  if (!S_ISREG(status.st_mode))
    return fail(Errc::data_error, path.string() + ": is not a regular file");
  return file;
}

}  // namespace crabcast::data
