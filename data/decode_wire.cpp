#include "data/decode_wire.h"

#include <ATen/ops/from_blob.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

namespace crabcast::data {
namespace {

constexpr std::size_t kMaxPacket = 1 << 16;
constexpr std::uint64_t kAlignment = 64;  // of LibTorch's own memory

struct Field {
  at::Tensor SampleMedia::*tensor;
  at::ScalarType type;
  int dimensions;
};
// In the order of DecodedMedia.
constexpr std::array kFields = {Field{&SampleMedia::pixel_values, at::kFloat, 2},
                                Field{&SampleMedia::grid_thw, at::kLong, 2},
                                Field{&SampleMedia::seconds_per_grid, at::kFloat, 1},
                                Field{&SampleMedia::audio_features, at::kFloat, 3},
                                Field{&SampleMedia::audio_lengths, at::kLong, 1}};

std::uint64_t aligned(std::uint64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

Status write_at(int file, const void* data, std::size_t bytes, std::uint64_t offset) {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const auto done = ::pwrite(file, from, bytes, static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return fail(error_from_errno(errno, "writing a sample to shared memory"));
    from += done;
    bytes -= static_cast<std::size_t>(done);
    offset += static_cast<std::uint64_t>(done);
  }
  return {};
}

// Milliseconds for poll, rounded up; -1: for ever.
int milliseconds_until(TimePoint deadline) {
  if (deadline == TimePoint::max()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000));
}

tl::unexpected<Error> does_not_fit() {
  return fail(Errc::corrupt, "a decoded sample and its description do not fit");
}

// Bytes of a tensor; nothing when the sizes make no sense.
std::optional<std::uint64_t> bytes_of(const Field& field,
                                      const google::protobuf::RepeatedField<std::int64_t>& sizes) {
  if (sizes.size() != field.dimensions) return std::nullopt;
  std::uint64_t bytes = at::elementSize(field.type);
  for (const auto size : sizes)
    if (size < 0 || __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes))
      return std::nullopt;
  return bytes;
}

}  // namespace

Status send_packet(int socket, const google::protobuf::MessageLite& message, int descriptor) {
  std::string bytes = message.SerializeAsString();
  iovec part{bytes.data(), bytes.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  if (descriptor >= 0) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &descriptor, sizeof(int));
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &header, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return {};
  if (errno == EPIPE || errno == ECONNRESET)
    return fail(Errc::unavailable, "the other side of a decode pool is gone");
  return fail(error_from_errno(errno, "sending to a decode pool's other side"));
}

Result<std::optional<Packet>> receive_packet(int socket, TimePoint deadline) {
  while (true) {
    pollfd waiting{socket, POLLIN, 0};
    const int ready = ::poll(&waiting, 1, milliseconds_until(deadline));
    if (ready > 0) break;
    if (ready < 0 && errno != EINTR) return fail(error_from_errno(errno, "waiting for a packet"));
    if (Clock::now() >= deadline) return fail(Errc::timeout, "no packet came in time");
  }
  Packet packet;
  packet.bytes.resize(kMaxPacket);
  iovec part{packet.bytes.data(), packet.bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno != ECONNRESET) return fail(error_from_errno(errno, "receiving a packet"));
  if (got <= 0) return std::nullopt;  // no packet is empty
  if (const cmsghdr* rights = CMSG_FIRSTHDR(&header);
      rights != nullptr && rights->cmsg_type == SCM_RIGHTS) {
    int descriptor = -1;
    std::memcpy(&descriptor, CMSG_DATA(rights), sizeof(int));
    packet.descriptor = Descriptor(descriptor);
  }
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
    return fail(Errc::corrupt, "a packet is too long");
  packet.bytes.resize(static_cast<std::size_t>(got));
  return packet;
}

Result<SharedMedia> share(const SampleMedia& media) {
  SharedMedia shared;
  shared.memory = Descriptor(::memfd_create("crabcast-sample", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const int file = shared.memory.get();
  if (file < 0) return fail(error_from_errno(errno, "making shared memory"));
  std::uint64_t offset = 0;
  for (const Field& field : kFields) {
    auto& shape = *shared.description.add_tensors();
    if (!(media.*field.tensor).defined()) continue;
    const auto tensor = (media.*field.tensor).contiguous();
    shape.mutable_sizes()->Add(tensor.sizes().begin(), tensor.sizes().end());
    CRABCAST_TRY(write_at(file, tensor.const_data_ptr(), tensor.nbytes(), offset));
    offset += aligned(tensor.nbytes());
  }
  // Up to the alignment of the last one; then nobody can take the memory away from its reader.
  if (::ftruncate(file, static_cast<off_t>(offset)) != 0 ||
      ::fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return fail(error_from_errno(errno, "making shared memory"));
  shared.description.set_video_tokens(media.tokens.video);
  shared.description.set_image_tokens(media.tokens.image);
  shared.description.set_audio_tokens(media.tokens.audio);
  shared.description.set_second_video_tokens(media.tokens.second_video);
  shared.description.set_second_audio_tokens(media.tokens.second_audio);
  for (const auto time : media.times) shared.description.add_stage_nanoseconds(time);
  return shared;
}

Result<SampleMedia> take(const pb::DecodedMedia& description, const Descriptor& memory) {
  struct stat status {};
  const int seals = ::fcntl(memory.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || ::fstat(memory.get(), &status) != 0 ||
      description.tensors_size() != static_cast<int>(kFields.size()) ||
      description.stage_nanoseconds_size() != static_cast<int>(kStageNames.size()))
    return does_not_fit();
  const auto size = static_cast<std::uint64_t>(status.st_size);

  SampleMedia media;
  media.tokens = {description.video_tokens(), description.image_tokens(),
                  description.audio_tokens(), description.second_video_tokens(),
                  description.second_audio_tokens()};
  std::copy(description.stage_nanoseconds().begin(), description.stage_nanoseconds().end(),
            media.times.begin());
  if (size == 0) return media;
  void* address =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memory.get(), 0);
  if (address == MAP_FAILED) return fail(error_from_errno(errno, "mapping a decoded sample"));
  const std::shared_ptr<void> mapping(address, [size](void* at) { ::munmap(at, size); });
  std::uint64_t offset = 0;
  for (std::size_t i = 0; i < kFields.size(); ++i) {
    const auto& sizes = description.tensors(static_cast<int>(i)).sizes();
    if (sizes.empty()) continue;
    const auto bytes = bytes_of(kFields[i], sizes);
    if (!bytes || *bytes > size - offset) return does_not_fit();
    media.*kFields[i].tensor = at::from_blob(
        static_cast<char*>(address) + offset, {sizes.data(), sizes.data() + sizes.size()},
        [mapping](void*) {}, at::TensorOptions(kFields[i].type));
    offset = std::min(size, offset + aligned(*bytes));
  }
  return media;
}

}  // namespace crabcast::data
