#include "actors/launch.h"

#include <google/protobuf/io/zero_copy_stream_impl.h>
#include <google/protobuf/text_format.h>

#include <cerrno>
#include <fstream>

namespace crabcast::actors {

Result<pb::RoleLaunch> read_launch(const std::filesystem::path& file) {
  std::ifstream stream(file);
  if (!stream) return fail(error_from_errno(errno, "launch file " + file.string()));
  google::protobuf::io::IstreamInputStream input(&stream);
  pb::RoleLaunch launch;
  if (!google::protobuf::TextFormat::Parse(&input, &launch))
    return fail(Errc::corrupt, "launch file " + file.string() + " is not a RoleLaunch");
  return launch;
}

Status write_launch(const std::filesystem::path& file, const pb::RoleLaunch& launch) {
  std::error_code error;
  std::filesystem::create_directories(file.parent_path(), error);
  if (error)
    return fail(error_from_errno(error.value(), "cannot make " + file.parent_path().string()));
  std::string text;
  google::protobuf::TextFormat::PrintToString(launch, &text);
  std::ofstream stream(file, std::ios::trunc);
  stream << text << std::flush;
  if (!stream) return fail(error_from_errno(errno, "cannot write " + file.string()));
  return {};
}

}  // namespace crabcast::actors
