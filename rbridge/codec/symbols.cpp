#include "rbridge/codec/symbols.hpp"

#include <cstring>

namespace setsuna::codec {

WellKnown well_known;

namespace {

struct CacheLine {
  const char* name;  // of the symbol itself: lives as long as it
  std::size_t size;
  SEXP symbol;
};
constexpr std::size_t kCacheLines = 1024;
CacheLine cache[kCacheLines];

std::size_t cache_index(const char* name, std::size_t size) noexcept {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  const std::size_t some = size < 8 ? size : 8;
  std::memcpy(&first, name, some);
  std::memcpy(&last, name + size - some, some);
  const std::uint64_t mixed = (first ^ (last * 0xC2B2AE3D27D4EB4FULL) ^ size) * 0x9E3779B97F4A7C15ULL;
  return mixed >> 54;
}
static_assert(std::uint64_t{1} << (64 - 54) == kCacheLines);

SEXP install_new(const char* name, std::size_t size) {
  char ended[256];
  if (size < sizeof ended && std::memchr(name, 0, size) == nullptr) {
    std::memcpy(ended, name, size);
    ended[size] = '\0';
    return Rf_install(ended);
  }
  SEXP text = Rf_protect(Rf_mkCharLenCE(name, static_cast<int>(size), CE_NATIVE));  // R error on an embedded NUL
  SEXP symbol = Rf_installTrChar(text);
  Rf_unprotect(1);
  return symbol;
}

// The class object of a compact sequence, if it is laid out as the codec expects: {length, first, step}.
SEXP compact_class(SEXP sequence, double first) {
  if (!ALTREP(sequence)) return R_NilValue;
  SEXP state = R_altrep_data1(sequence);
  if (TYPEOF(state) != REALSXP || XLENGTH(state) != 3) return R_NilValue;
  const double* field = REAL_RO(state);
  if (field[0] != 5 || field[1] != first || field[2] != 1) return R_NilValue;
  return ALTREP_CLASS(sequence);
}

}  // namespace

SEXP install_ascii(const char* name, std::size_t size) {
  CacheLine& line = cache[cache_index(name, size)];
  if (line.size == size && std::memcmp(line.name, name, size) == 0) return line.symbol;
  SEXP symbol = install_new(name, size);
  SEXP text = PRINTNAME(symbol);
  line = CacheLine{CHAR(text), static_cast<std::size_t>(LENGTH(text)), symbol};
  return symbol;
}

void initialize_well_known() {
  well_known.srcref = Rf_install("srcref");
  well_known.srcfile = Rf_install("srcfile");
  well_known.whole_srcref = Rf_install("wholeSrcref");
  SEXP integers = Rf_protect(R_ParseEvalString("3:7", R_BaseEnv));
  SEXP reals = Rf_protect(R_ParseEvalString("as.double(3:7)", R_BaseEnv));
  well_known.compact_integer = compact_class(integers, 3);
  well_known.compact_real = compact_class(reals, 3);
  R_PreserveObject(well_known.compact_integer);
  R_PreserveObject(well_known.compact_real);
  Rf_unprotect(2);
}

}  // namespace setsuna::codec
