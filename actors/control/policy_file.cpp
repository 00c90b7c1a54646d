#include "actors/control/policy_file.h"

#include <cerrno>
#include <fstream>
#include <sstream>
#include <utility>

#include "protocol/clock.h"
#include "storage/files.h"

namespace crabcast::actors {

namespace fs = std::filesystem;

PolicyFile::PolicyFile(fs::path path) : path_(std::move(path)) {}

std::optional<PolicyFile::Stamp> PolicyFile::stamp() const {
  std::error_code error;
  Stamp stamp{fs::last_write_time(path_, error), 0};
  if (!error) stamp.bytes = fs::file_size(path_, error);
  if (error) return std::nullopt;
  return stamp;
}

Result<scheduler::ClusterPolicy> PolicyFile::read() {
  if (path_.empty()) return scheduler::ClusterPolicy::standard();
  seen_ = stamp();
  std::ifstream file(path_, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file) {
    refused_ = path_.string() + " cannot be read; the last policy stays";
    return fail(error_from_errno(errno == 0 ? EIO : errno, "reading " + path_.string()));
  }
  return take(text.str());
}

std::optional<Result<scheduler::ClusterPolicy>> PolicyFile::read_if_changed() {
  if (path_.empty() || stamp() == seen_) return std::nullopt;
  return read();
}

Result<scheduler::ClusterPolicy> PolicyFile::take(const std::string& yaml) {
  auto policy = scheduler::parse_policy(yaml, path_.string());
  if (!policy) {
    refused_ = policy.error().text();
    return fail(policy.error().error());
  }
  yaml_ = yaml;
  refused_.clear();
  loaded_unix_ms_ = unix_ms_now();
  return std::move(*policy);
}

Result<scheduler::ClusterPolicy> PolicyFile::replace(const std::string& yaml) {
  if (path_.empty())
    return fail(Errc::unsupported,
                "this controller has no policy file; start it with crabcast controller --policy "
                "FILE");
  auto policy = scheduler::parse_policy(yaml, "policy");
  if (!policy) return fail(policy.error().error());  // the file stays as it is
  CRABCAST_TRY(storage::replace_file(path_, yaml));
  seen_ = stamp();
  return take(yaml);
}

pb::PolicyText PolicyFile::text() const {
  pb::PolicyText text;
  text.set_yaml(yaml_);
  text.set_file(path_.string());
  text.set_loaded_unix_ms(loaded_unix_ms_);
  text.set_refused(refused_);
  return text;
}

}  // namespace crabcast::actors
