#include "data/decode_child.h"

#include <ATen/Parallel.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "data/decode_wire.h"
#include "data/sample_media.h"
#include "protocol/format.h"

namespace crabcast::data {
namespace {

constexpr std::size_t kMaxText = 4096;  // of an error

// A decoder that goes astray may take this process with it, but not the machine.
Status set_limits(const DecodeChildOptions& options) {
  const rlimit no_core{0, 0};
  if (::setrlimit(RLIMIT_CORE, &no_core) != 0)
    return fail(error_from_errno(errno, "forbidding core files"));
  const rlimit memory{options.memory_bytes, options.memory_bytes};
  if (options.memory_bytes > 0 && ::setrlimit(RLIMIT_DATA, &memory) != 0)
    return fail(error_from_errno(errno, "limiting memory"));
  return {};
}

Sample sample_of(const pb::DecodeRequest& request) {
  Sample sample;
  sample.dataset = request.dataset();
  sample.video = request.video();
  sample.image = request.image();
  sample.audio = request.audio();
  sample.second_video = request.second_video();
  sample.second_audio = request.second_audio();
  sample.frame_index = request.frame_index();
  return sample;
}

model::MediaShape shape_of(const pb::DecodeRequest& request) {
  model::MediaShape shape;
  shape.image_size = request.image_size();
  shape.patch_size = request.patch_size();
  shape.temporal_patch = request.temporal_patch();
  shape.merge = request.merge();
  shape.mel_bins = request.mel_bins();
  shape.seconds_per_grid = request.seconds_per_grid();
  return shape;
}

Result<SharedMedia> decode(const DecodeChildOptions& options, const pb::DecodeRequest& request) {
  const auto say_reading = [socket = options.socket](const std::filesystem::path& path) {
    pb::DecodeReply reply;
    reply.set_reading(path.string());
    // A pool that is gone is noticed when the next request is waited for.
    if (auto sent = send_packet(socket, reply); !sent) spdlog::debug("{}", sent.error().message);
  };
  auto media = read_media(sample_of(request), shape_of(request),
                          std::chrono::microseconds(request.deadline_us()), say_reading);
  // Nobody else takes memory of this process: the sample needs more than any may have.
  if (!media && media.error().code == Errc::resource_exhausted && options.memory_bytes > 0)
    return fail(Errc::data_error, media.error().message + " (the limit is " +
                                      format_bytes(options.memory_bytes) + ")");
  if (!media) return fail(media.error());
  return share(*media);
}

Status answer(const DecodeChildOptions& options, const Packet& packet) {
  const int socket = options.socket;
  pb::DecodeRequest request;
  if (!request.ParseFromString(packet.bytes))
    return fail(Errc::corrupt, "a request cannot be parsed");
  pb::DecodeReply reply;
  const auto shared = decode(options, request);
  if (!shared) {
    reply.mutable_failure()->set_code(static_cast<std::uint32_t>(shared.error().code));
    reply.mutable_failure()->set_text(shared.error().message.substr(0, kMaxText));
    return send_packet(socket, reply);
  }
  *reply.mutable_media() = shared->description;
  return send_packet(socket, reply, shared->memory.get());
}

Status serve(const DecodeChildOptions& options) {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
    return fail(error_from_errno(errno, "asking for a signal when the pool ends"));
  if (::getppid() != options.parent) return {};  // it ended before
  CRABCAST_TRY(set_limits(options));
  // One thread: the last bit of a product may depend on their number.
  at::set_num_threads(1);
  pb::DecodeReply ready;
  ready.mutable_ready();
  CRABCAST_TRY(send_packet(options.socket, ready));
  while (true) {
    // For ever: an idle child ends with its pool, whose end the kernel tells (PR_SET_PDEATHSIG).
    auto packet = receive_packet(options.socket, TimePoint::max());
    if (!packet) return fail(packet.error());
    if (!*packet) return {};
    CRABCAST_TRY(answer(options, **packet));
  }
}

}  // namespace

int run_decode_child(const DecodeChildOptions& options) {
  ::prctl(PR_SET_NAME, "decode-child");
  const auto served = serve(options);
  if (served || served.error().code == Errc::unavailable) return 0;
  spdlog::error("decode-child: {}", served.error().message);
  return 1;
}

}  // namespace crabcast::data
