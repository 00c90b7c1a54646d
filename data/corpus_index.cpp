#include "data/corpus_index.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <utility>

#include "data/files.h"
#include "data/index_db.h"
#include "data/row_scan.h"
#include "protocol/checksum.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;

// Keys of an index, after the rules of docs/storage-format.md. A file's number is twice its data
// set's, plus one for test.json.
//   f                             kFormat; written last, so an index that has it is whole
//   j + file (1 byte)             size, mtime in ns, rows, hash (8 bytes each), code of the problem
//                                 (1 byte) and its message
//   p + file (1 byte) + page (8)  kPageRows rows: begin (8), length (4), low half of XXH3 (4) each
constexpr std::string_view kFormat = "crabcast corpus index 1";
constexpr std::string_view kFormatKey = "f";
constexpr std::uint64_t kPageRows = 256;
constexpr std::size_t kRowBytes = 16;
constexpr std::size_t kFileBytes = 33;
constexpr auto kWait = std::chrono::minutes(30);  // for another process that builds it

std::uint64_t hash_of(std::string_view text) {
  return checksum64(std::as_bytes(std::span(text)));
}

std::size_t number_of(DatasetRow dataset, JsonFile which) {
  return 2 * std::size_t{dataset} + (which == JsonFile::test ? 1 : 0);
}

std::string file_key(std::size_t file) {
  std::string key = "j";
  append_number(key, file, 1);
  return key;
}

std::string page_key(std::size_t file, std::uint64_t page) {
  std::string key = "p";
  append_number(key, file, 1);
  append_number(key, page, 8);
  return key;
}

struct Stamp {
  std::uint64_t size = 0, mtime_ns = 0;
  friend bool operator==(const Stamp&, const Stamp&) = default;
};

Result<Stamp> stamp_of(int descriptor, const fs::path& path) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) return fail(error_from_errno(errno, path.string()));
  return Stamp{static_cast<std::uint64_t>(status.st_size),
               static_cast<std::uint64_t>(status.st_mtim.tv_sec) * 1'000'000'000 +
                   static_cast<std::uint64_t>(status.st_mtim.tv_nsec)};
}

// One JSON file of the corpus. It stays open, so that its rows are those that were indexed even
// when another file takes its name.
struct OpenFile {
  IndexedFile known;  // its path is set first
  Descriptor descriptor;
  Stamp stamp;
  [[nodiscard]] bool exists() const { return descriptor.get() >= 0 || known.problem; }
};
using OpenFiles = std::array<OpenFile, 2 * kDatasetNames.size()>;

void open_file(OpenFile& file) {
  auto descriptor = open_regular(file.known.path);
  if (descriptor) {
    file.descriptor = std::move(*descriptor);
    auto stamp = stamp_of(file.descriptor.get(), file.known.path);
    if (stamp)
      file.stamp = *stamp;
    else
      file.known.problem = stamp.error();
  } else if (descriptor.error().code != Errc::not_found) {
    file.known.problem = descriptor.error();
  }
}

// The row table of one file while it is made.
class FileWriter {
 public:
  FileWriter(rocksdb::DB& db, std::size_t number) : db_(db), number_(number) {}

  Status add(const RowText& row) {
    const std::uint64_t hash = hash_of(row.text);
    hashes_.add(std::as_bytes(std::span(&hash, 1)));
    append_number(page_, row.begin, 8);
    append_number(page_, row.text.size(), 4);
    append_number(page_, static_cast<std::uint32_t>(hash), 4);
    if (++rows_ % kPageRows != 0) return {};
    return put_page(rows_ / kPageRows - 1);
  }

  Status end(const Stamp& stamp, const std::optional<Error>& problem) {
    if (!page_.empty()) CRABCAST_TRY(put_page(rows_ / kPageRows));
    std::string value;
    append_number(value, stamp.size, 8);
    append_number(value, stamp.mtime_ns, 8);
    append_number(value, rows_, 8);
    append_number(value, hashes_.value(), 8);
    append_number(value, static_cast<std::uint64_t>(problem ? problem->code : Errc::ok), 1);
    if (problem) value += problem->message;
    return put(file_key(number_), value);
  }

 private:
  Status put_page(std::uint64_t page) {
    return put(page_key(number_, page), std::exchange(page_, {}));
  }
  Status put(const std::string& key, const std::string& value) {
    rocksdb::WriteOptions options;
    options.disableWAL = true;  // an index that is not finished is thrown away
    const auto status = db_.Put(options, key, value);
    if (!status.ok()) return fail(error_of(status, "write the index of the corpus"));
    return {};
  }

  rocksdb::DB& db_;
  std::size_t number_;
  Checksum64 hashes_;
  std::string page_;
  std::uint64_t rows_ = 0;
};

// An error of the index ends the building; one of the file is noted in it.
Status index_file(rocksdb::DB& db, std::size_t number, const OpenFile& file,
                  const std::function<void()>& progress) {
  FileWriter writer(db, number);
  std::uint64_t rows = 0;
  Status written;
  std::optional<Error> problem = file.known.problem;
  if (!problem) {
    const auto scanned = scan_rows(file.descriptor.get(), file.known.path, [&](const RowText& row) {
      if (auto whole = check_row(file.known.path, row); !whole) return whole;
      if (progress && rows++ % kPageRows == 0) progress();
      return written = writer.add(row);
    });
    CRABCAST_TRY(written);
    if (!scanned) problem = scanned.error();
    const auto after = stamp_of(file.descriptor.get(), file.known.path);
    if (!after || *after != file.stamp)
      return fail(Errc::unavailable,
                  file.known.path.string() + " was changed while it was read; try again");
  }
  return writer.end(file.stamp, problem);
}

class RocksCorpusIndex final : public CorpusIndex {
 public:
  explicit RocksCorpusIndex(const fs::path& corpus) : corpus_(corpus) {
    for (DatasetRow dataset = 0; dataset < datasets().size(); ++dataset) {
      const auto folder = corpus / datasets()[dataset].id;
      files_[number_of(dataset, JsonFile::train)].known.path = folder / "train.json";
      files_[number_of(dataset, JsonFile::test)].known.path = folder / "test.json";
    }
    for (auto& file : files_) open_file(file);
  }

  // Why the index in `place` cannot be used; nothing when it can, and now is.
  std::optional<std::string> attach(const fs::path& place) {
    std::error_code error;
    if (!fs::exists(place, error)) return "there is none yet";
    auto db = open_db(place, DbUse::read);
    if (!db) return "it cannot be opened (" + db.error().message + ")";
    db_ = std::move(*db);
    std::string format;
    if (!db_->Get({}, kFormatKey, &format).ok()) return "it is not whole";
    if (format != kFormat)
      return "its format is \"" + format + "\", not \"" + std::string(kFormat) + "\"";
    for (std::size_t number = 0; number < files_.size(); ++number)
      if (auto why = compare(number)) return why;
    return std::nullopt;
  }

  Status build(const fs::path& place, const std::function<void()>& progress) {
    db_.reset();
    const auto partial = place.string() + ".building";
    CRABCAST_TRY(remove_folder(partial));
    {
      auto db = open_db(partial, DbUse::create);
      if (!db) return fail(db.error());
      for (std::size_t number = 0; number < files_.size(); ++number)
        if (files_[number].exists())
          CRABCAST_TRY(index_file(**db, number, files_[number], progress));
      rocksdb::WriteOptions options;
      options.disableWAL = true;
      auto status = (*db)->Put(options, kFormatKey, kFormat);
      if (status.ok()) status = (*db)->Flush({});
      if (status.ok()) status = (*db)->Close();
      if (!status.ok()) return fail(error_of(status, "write the index in " + partial));
    }
    CRABCAST_TRY(remove_folder(place));
    return publish_folder(partial, place);
  }

  [[nodiscard]] const IndexedFile* file(DatasetRow dataset, JsonFile which) const override {
    const auto& file = files_[number_of(dataset, which)];
    return file.exists() ? &file.known : nullptr;
  }

  [[nodiscard]] Result<nlohmann::json> row(DatasetRow dataset, JsonFile which,
                                           std::uint64_t index) const override {
    const auto number = number_of(dataset, which);
    const auto& file = files_[number];
    auto entry = entry_of(number, index);
    if (!entry) return fail(entry.error());
    std::string text(entry->length, '\0');
    CRABCAST_TRY(read_exactly(file.descriptor.get(), text.data(), text.size(), entry->begin,
                              file.known.path));
    if (static_cast<std::uint32_t>(hash_of(text)) != entry->check)
      return fail(Errc::data_error, file.known.path.string() + ": row " + std::to_string(index) +
                                        " was changed since the corpus was opened; start again");
    return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  }

  [[nodiscard]] std::uint64_t line(DatasetRow dataset, JsonFile which,
                                   std::uint64_t index) const override {
    const auto& file = files_[number_of(dataset, which)];
    std::uint64_t line = 0, at = 0;
    const auto found =
        scan_rows(file.descriptor.get(), file.known.path, [&](const RowText& row) -> Status {
          if (at++ != index) return {};
          line = row.line;
          return fail(Errc::cancelled, "found");
        });
    return found ? 0 : line;
  }

 private:
  struct Entry {
    std::uint64_t begin = 0;
    std::uint32_t length = 0, check = 0;
  };

  std::optional<std::string> compare(std::size_t number) {
    auto& file = files_[number];
    std::string value;
    const auto status = db_->Get({}, file_key(number), &value);
    const auto& path = file.known.path.string();
    if (status.IsNotFound()) return file.exists() ? std::optional(path + " is new") : std::nullopt;
    if (!status.ok() || value.size() < kFileBytes) return "it is damaged";
    if (!file.exists()) return path + " is gone";
    const std::string_view bytes(value);
    if (Stamp{read_number(bytes, 8), read_number(bytes.substr(8), 8)} != file.stamp)
      return path + " was changed";
    file.known.rows = read_number(bytes.substr(16), 8);
    file.known.hash = read_number(bytes.substr(24), 8);
    if (const auto code = errc_from_number(static_cast<unsigned char>(bytes[32])); code != Errc::ok)
      file.known.problem = Error{code, std::string(bytes.substr(kFileBytes))};
    return std::nullopt;
  }

  [[nodiscard]] Result<Entry> entry_of(std::size_t number, std::uint64_t index) const {
    const auto& file = files_[number].known;
    if (index >= file.rows)
      return fail(Errc::invalid_argument, file.path.string() + ": has " +
                                              std::to_string(file.rows) + " rows; row " +
                                              std::to_string(index) + " was asked for");
    rocksdb::PinnableSlice page;
    const auto status =
        db_->Get({}, db_->DefaultColumnFamily(), page_key(number, index / kPageRows), &page);
    const auto at = (index % kPageRows) * kRowBytes;
    if (!status.ok() || page.size() < at + kRowBytes)
      return fail(Errc::corrupt, "the index of " + corpus_.string() + " is damaged (" +
                                     status.ToString() + "); remove " + db_->GetName() +
                                     " and start again");
    const auto bytes = page.ToStringView().substr(at);
    return Entry{read_number(bytes, 8), static_cast<std::uint32_t>(read_number(bytes.substr(8), 4)),
                 static_cast<std::uint32_t>(read_number(bytes.substr(12), 4))};
  }

  fs::path corpus_;
  OpenFiles files_;
  std::unique_ptr<rocksdb::DB> db_;
};

}  // namespace

Result<std::unique_ptr<CorpusIndex>> CorpusIndex::open(const fs::path& corpus,
                                                       const fs::path& cache,
                                                       const std::function<void()>& progress) {
  std::error_code error;
  const auto whole = fs::canonical(corpus, error);
  if (error) return fail(error_from_errno(error.value(), corpus.string()));
  CRABCAST_TRY(make_folder(cache));
  const auto place = cache / index_name(whole);
  auto lock = FileLock::acquire(place.string() + ".lock", kWait, progress);
  if (!lock) return fail(lock.error());
  auto index = std::make_unique<RocksCorpusIndex>(whole);
  if (const auto why = index->attach(place)) {
    spdlog::info("the index of {} is built: {}", whole.string(), *why);
    CRABCAST_TRY(index->build(place, progress));
    if (const auto still = index->attach(place))
      return fail(Errc::corrupt, "the new index in " + place.string() + " is no good: " + *still);
  }
  return index;
}

}  // namespace crabcast::data
