#include "data/scene.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace crabcast::data {
namespace {

constexpr Colour kRed{"red", 214, 48, 49}, kGreen{"green", 46, 174, 96},
    kBlue{"blue", 52, 110, 219}, kYellow{"yellow", 241, 200, 20}, kPurple{"purple", 150, 70, 180},
    kOrange{"orange", 243, 134, 36}, kWhite{"white", 238, 240, 242}, kCyan{"cyan", 60, 205, 210};
constexpr std::array kColours = {kRed, kGreen, kBlue, kYellow, kPurple, kOrange};

constexpr std::array<KindInfo, kKindCount> kKinds = {
    KindInfo{"drum", Shape::disc, kRed, "beats"},
    KindInfo{"bell", Shape::dome, kYellow, "rings"},
    KindInfo{"flute", Shape::bar, kGreen, "plays"},
    KindInfo{"horn", Shape::ring, kOrange, "blows"},
    KindInfo{"siren", Shape::diamond, kBlue, "wails"},
    KindInfo{"clock", Shape::square, kWhite, "ticks"},
    KindInfo{"motor", Shape::cross, kPurple, "hums"},
    KindInfo{"bird", Shape::star, kCyan, "sings"},
};

// Signed distances to the edge, negative inside, for a shape in the square from -1 to 1.
double bar_distance(double u, double v, double half_width, double half_height) {
  return std::max(std::abs(u) - half_width, std::abs(v) - half_height);
}

double star_distance(double u, double v) {
  // Inside where at most one of the pentagram's five lines has the point on its outer side.
  constexpr std::array<std::array<double, 2>, 5> kNormals = {
      {{0, 1}, {0.951, 0.309}, {0.588, -0.809}, {-0.588, -0.809}, {-0.951, 0.309}}};
  double largest = -4, second = -4;
  for (const auto& [a, b] : kNormals) {
    const double d = a * u + b * v - 0.42;
    if (d > largest) {
      second = largest;
      largest = d;
    } else {
      second = std::max(second, d);
    }
  }
  return std::max(second, bar_distance(u, v, 1, 1));
}

double distance(Shape shape, double u, double v) {
  switch (shape) {
    case Shape::disc:
      return std::sqrt(u * u + v * v) - 1;
    case Shape::dome: {  // a half disc over a block: round top, flat bottom
      const double round = std::sqrt(u * u + v * v) - 1;
      return v < 0 ? round : bar_distance(u, v, 1, 0.8);
    }
    case Shape::bar:
      return bar_distance(u, v, 1, 0.36);
    case Shape::ring:
      return std::abs(std::sqrt(u * u + v * v) - 0.7) - 0.3;
    case Shape::diamond:
      return (std::abs(u) + std::abs(v) - 1) * 0.7071;
    case Shape::square:
      return bar_distance(u, v, 0.9, 0.9);
    case Shape::cross:
      return std::min(bar_distance(u, v, 1, 0.4), bar_distance(u, v, 0.4, 1));
    case Shape::star:
      return star_distance(u, v);
  }
  return 1;
}

// Calls visit(x, y, inside) for the pixels near a sprite; `inside` is the depth in pixels, negative
// outside.
template <class Visit>
void for_pixels(const Sprite& sprite, int width, int height, const Visit& visit) {
  const double radius = sprite.radius * width;
  if (!(radius > 0 && sprite.aspect > 0)) return;  // nothing to see, and nothing to divide by
  const double centre_x = sprite.x * width, centre_y = sprite.y * height;
  const double reach = radius * std::max(1.0, sprite.aspect) * (sprite.angle == 0 ? 1 : 1.42) + 1;
  const double cosine = sprite.angle == 0 ? 1 : std::cos(sprite.angle);
  const double sine = sprite.angle == 0 ? 0 : std::sin(sprite.angle);
  const auto low = [](double value) { return std::max(0, static_cast<int>(std::floor(value))); };
  const auto high = [](double value, int size) {
    return std::min(size, static_cast<int>(std::ceil(value)));
  };
  const int x_end = high(centre_x + reach, width), y_end = high(centre_y + reach, height);
  for (int y = low(centre_y - reach); y < y_end; ++y) {
    for (int x = low(centre_x - reach); x < x_end; ++x) {
      const double dx = x + 0.5 - centre_x, dy = y + 0.5 - centre_y;
      const double u = (dx * cosine + dy * sine) / radius;
      const double v = (dy * cosine - dx * sine) / (radius * sprite.aspect);
      visit(x, y, -distance(sprite.shape, u, v) * radius * std::min(1.0, sprite.aspect));
    }
  }
}

// To the nearest; never negative, so cutting off is rounding down, which is quicker than lround.
std::uint8_t blend(std::uint8_t under, double over, double share) {
  return static_cast<std::uint8_t>(under + (over - under) * share + 0.5);
}

}  // namespace

std::span<const Colour> colours() {
  return kColours;
}
const KindInfo& info(Kind kind) {
  return kKinds[static_cast<std::size_t>(kind)];
}

Canvas::Canvas(int width, int height)
    : width_(width), height_(height), pixels_(static_cast<std::size_t>(width) * height * 3) {}

void Canvas::fill(const Colour& top, const Colour& bottom) {
  auto* out = pixels_.data();
  for (int y = 0; y < height_; ++y) {
    const double share = height_ > 1 ? static_cast<double>(y) / (height_ - 1) : 0;
    const std::array line = {blend(top.r, bottom.r, share), blend(top.g, bottom.g, share),
                             blend(top.b, bottom.b, share)};
    for (int x = 0; x < width_; ++x) out = std::ranges::copy(line, out).out;
  }
}

void Canvas::draw(const Sprite& sprite, bool rim) {
  const Colour& colour = sprite.colour;
  const double rim_depth = std::max(1.0, sprite.radius * width_ * 0.14);
  for_pixels(sprite, width_, height_, [&](int x, int y, double inside) {
    const double cover = std::clamp(inside + 0.5, 0.0, 1.0);
    if (cover <= 0) return;
    const double light = rim && inside < rim_depth ? 0.55 : 1;
    auto* pixel = &pixels_[(static_cast<std::size_t>(y) * width_ + x) * 3];
    pixel[0] = blend(pixel[0], colour.r * light, cover);
    pixel[1] = blend(pixel[1], colour.g * light, cover);
    pixel[2] = blend(pixel[2], colour.b * light, cover);
  });
}

std::vector<std::uint8_t> mask_of(const Sprite& sprite, int width, int height) {
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(width) * height);
  for_pixels(sprite, width, height, [&](int x, int y, double inside) {
    if (inside >= 0) mask[static_cast<std::size_t>(y) * width + x] = 255;
  });
  return mask;
}

std::optional<Box> box_of(std::span<const std::uint8_t> mask, int side) {
  int left = side, top = side, right = -1, bottom = -1;
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x) {
      if (mask[static_cast<std::size_t>(y) * side + x] == 0) continue;
      left = std::min(left, x);
      top = std::min(top, y);
      right = std::max(right, x);
      bottom = std::max(bottom, y);
    }
  if (right < 0) return std::nullopt;
  return Box{double(left), double(top), double(right), double(bottom)};
}

std::string points_text(std::span<const std::uint8_t> mask, int side, const Box& box) {
  constexpr std::array<std::array<double, 2>, 3> kPlaces = {
      {{0.5, 0.5}, {0.25, 0.75}, {0.75, 0.75}}};
  std::vector<std::array<int, 2>> chosen;
  std::string text;
  for (const auto& [across, down] : kPlaces) {
    const double want_x = box.x1 + (box.x2 - box.x1) * across;
    const double want_y = box.y1 + (box.y2 - box.y1) * down;
    double nearest = std::numeric_limits<double>::max();
    std::array<int, 2> best = {-1, -1};
    for (int y = int(box.y1); y <= int(box.y2); ++y)
      for (int x = int(box.x1); x <= int(box.x2); ++x) {
        if (mask[static_cast<std::size_t>(y) * side + x] == 0) continue;
        const double far = (x - want_x) * (x - want_x) + (y - want_y) * (y - want_y);
        if (far >= nearest || std::ranges::count(chosen, std::array{x, y}) > 0) continue;
        nearest = far;
        best = {x, y};
      }
    chosen.push_back(best);
    text +=
        (text.empty() ? "[" : " [") + std::to_string(best[0]) + "," + std::to_string(best[1]) + "]";
  }
  return text;
}

}  // namespace crabcast::data
