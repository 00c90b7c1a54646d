#include "storage/registry.h"

#include <algorithm>

#include "storage/encoding.h"
#include "storage/open_with_env.h"
#include "storage/rocks.h"
#include "storage/rocks_options.h"
#include "storage/staged_disk.h"

namespace crabcast::storage {
namespace {

constexpr StoreKind kRegistry = {.format = "crabcast registry 1"};

// The key space (docs/storage-format.md); kFormatKey is "f". A letter is never used again for
// something else.
enum class RegistryKey : char {
  client_key = 'c',  // + client key -> job id
  event = 'e',       // + seq        -> pb::Event
  job = 'j',         // + job id     -> pb::JobRecord
  node = 'n',        // + node id    -> pb::NodeRecord
  submit_seq = 'q',  //              -> the last submit_seq that was given away
  series = 's',      // + job id     -> pb::JobSeries
};

class RocksRegistry final : public Registry {
 public:
  static Result<std::unique_ptr<Registry>> over(std::shared_ptr<Rocks> rocks);

  Status put_job(const pb::JobRecord& job, Sync sync) override;
  Result<std::optional<pb::JobRecord>> job(const JobId& id) const override;
  Result<std::vector<pb::JobRecord>> jobs() const override;
  Result<std::optional<JobId>> job_by_client_key(const std::string& key) const override;
  Result<std::uint64_t> next_submit_seq() override;

  Status put_node(const pb::NodeRecord& node, Sync sync) override;
  Result<std::vector<pb::NodeRecord>> nodes() const override;

  Status put_series(const pb::JobSeries& series, Sync sync) override;
  Result<std::optional<pb::JobSeries>> series(const JobId& id) const override;

  Result<std::uint64_t> append_event(pb::Event event, Sync sync) override;
  Result<std::vector<pb::Event>> events(std::uint64_t after_seq, std::size_t limit) const override;

 private:
  explicit RocksRegistry(std::shared_ptr<Rocks> rocks) : rocks_(std::move(rocks)) {}
  Status load_ends();

  std::shared_ptr<Rocks> rocks_;
  std::uint64_t last_event_ = 0;
  std::uint64_t last_submit_seq_ = 0;
};

Result<std::unique_ptr<Registry>> RocksRegistry::over(std::shared_ptr<Rocks> rocks) {
  std::unique_ptr<RocksRegistry> registry(new RocksRegistry(std::move(rocks)));
  CRABCAST_TRY(registry->load_ends());
  return registry;
}

Status RocksRegistry::load_ends() {
  const auto event = rocks_->last(key_of(RegistryKey::event), end_of(RegistryKey::event));
  if (!event) return fail(event.error());
  const auto seq = rocks_->get(key_of(RegistryKey::submit_seq));
  if (!seq) return fail(seq.error());
  const bool short_key = event->has_value() && (*event)->first.size() != 9;
  if (short_key || (seq->has_value() && (*seq)->size() != 8)) {
    return fail(Errc::corrupt, rocks_->folder().string() + ": a number has a wrong length");
  }
  if (event->has_value()) last_event_ = read_u64(std::string_view((*event)->first).substr(1));
  if (seq->has_value()) last_submit_seq_ = read_u64(**seq);
  return {};
}

Status RocksRegistry::put_job(const pb::JobRecord& job, Sync sync) {
  if (job.job().empty()) return fail(Errc::invalid_argument, "a job record needs a job id");
  rocksdb::WriteBatch batch;
  auto status = batch.Put(key_of(RegistryKey::job, job.job()), job.SerializeAsString());
  if (status.ok() && !job.client_key().empty()) {
    const auto holder = job_by_client_key(job.client_key());
    if (!holder) return fail(holder.error());
    if (holder->has_value() && (*holder)->value() != job.job()) {
      return fail(Errc::already_exists,
                  "the client key " + job.client_key() + " belongs to job " + (*holder)->value());
    }
    status = batch.Put(key_of(RegistryKey::client_key, job.client_key()), job.job());
  }
  if (!status.ok()) return fail(error_of(status, "write job " + job.job()));
  return rocks_->write(batch, sync);
}

Result<std::optional<pb::JobRecord>> RocksRegistry::job(const JobId& id) const {
  const auto value = rocks_->get(key_of(RegistryKey::job, id.value()));
  if (!value) return fail(value.error());
  if (!value->has_value()) return std::optional<pb::JobRecord>();
  auto record = parse_record<pb::JobRecord>(**value, "job/" + id.value());
  if (!record) return fail(record.error());
  return std::optional(std::move(*record));
}

Result<std::vector<pb::JobRecord>> RocksRegistry::jobs() const {
  auto records = read_records<pb::JobRecord>(*rocks_, key_of(RegistryKey::job),
                                             end_of(RegistryKey::job), "job", SIZE_MAX);
  if (!records) return records;
  std::stable_sort(records->begin(), records->end(),
                   [](const auto& a, const auto& b) { return a.submit_seq() < b.submit_seq(); });
  return records;
}

Result<std::optional<JobId>> RocksRegistry::job_by_client_key(const std::string& key) const {
  const auto value = rocks_->get(key_of(RegistryKey::client_key, key));
  if (!value) return fail(value.error());
  if (!value->has_value()) return std::optional<JobId>();
  return std::optional<JobId>(**value);
}

Result<std::uint64_t> RocksRegistry::next_submit_seq() {
  std::string value;
  append_u64(value, last_submit_seq_ + 1);
  CRABCAST_TRY(rocks_->put(key_of(RegistryKey::submit_seq), value, Sync::yes));
  return ++last_submit_seq_;
}

Status RocksRegistry::put_node(const pb::NodeRecord& node, Sync sync) {
  if (node.node().empty()) return fail(Errc::invalid_argument, "a node record needs a node id");
  return rocks_->put(key_of(RegistryKey::node, node.node()), node.SerializeAsString(), sync);
}

Result<std::vector<pb::NodeRecord>> RocksRegistry::nodes() const {
  return read_records<pb::NodeRecord>(*rocks_, key_of(RegistryKey::node), end_of(RegistryKey::node),
                                      "node", SIZE_MAX);
}

Status RocksRegistry::put_series(const pb::JobSeries& series, Sync sync) {
  if (series.job().empty()) return fail(Errc::invalid_argument, "a series needs a job id");
  return rocks_->put(key_of(RegistryKey::series, series.job()), series.SerializeAsString(), sync);
}

Result<std::optional<pb::JobSeries>> RocksRegistry::series(const JobId& id) const {
  const auto value = rocks_->get(key_of(RegistryKey::series, id.value()));
  if (!value) return fail(value.error());
  if (!value->has_value()) return std::optional<pb::JobSeries>();
  auto series = parse_record<pb::JobSeries>(**value, "series/" + id.value());
  if (!series) return fail(series.error());
  return std::optional(std::move(*series));
}

Result<std::uint64_t> RocksRegistry::append_event(pb::Event event, Sync sync) {
  event.set_seq(last_event_ + 1);
  CRABCAST_TRY(
      rocks_->put(key_of(RegistryKey::event, event.seq()), event.SerializeAsString(), sync));
  return ++last_event_;
}

Result<std::vector<pb::Event>> RocksRegistry::events(std::uint64_t after_seq,
                                                     std::size_t limit) const {
  return read_records<pb::Event>(*rocks_, key_of(RegistryKey::event, after_seq + 1),
                                 end_of(RegistryKey::event), "event", limit);
}

}  // namespace

Result<std::unique_ptr<Registry>> open_registry(const std::filesystem::path& folder,
                                                rocksdb::Env* env) {
  auto rocks = Rocks::open(folder, kRegistry, env);
  if (!rocks) return fail(rocks.error());
  return RocksRegistry::over(std::move(*rocks));
}

Result<std::unique_ptr<Registry>> Registry::open(const std::filesystem::path& folder) {
  return open_registry(folder, staged_disk());
}

Result<std::unique_ptr<Registry>> Registry::open_read_only(const std::filesystem::path& folder) {
  auto rocks = Rocks::open_read_only(folder, kRegistry);
  if (!rocks) return fail(rocks.error());
  return RocksRegistry::over(std::move(*rocks));
}

}  // namespace crabcast::storage
