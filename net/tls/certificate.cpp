#include "net/tls/certificate.hpp"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "net/tls/errors.hpp"

namespace setsuna::tls {
namespace {

constexpr long kSecondsPerDay = 86'400;
constexpr long kSkewSeconds = kSecondsPerDay;  // clocks of other machines may be behind

bssl::UniquePtr<EVP_PKEY> make_key() {
  bssl::UniquePtr<EC_KEY> ec(EC_KEY_new_by_curve_name(NID_X9_62_prime256v1));
  bssl::UniquePtr<EVP_PKEY> key(EVP_PKEY_new());
  if (ec == nullptr || key == nullptr || EC_KEY_generate_key(ec.get()) != 1 ||
      EVP_PKEY_set1_EC_KEY(key.get(), ec.get()) != 1) {
    return nullptr;
  }
  return key;
}

bssl::UniquePtr<GENERAL_NAME> general_name(const char* text) {
  bssl::UniquePtr<GENERAL_NAME> name(GENERAL_NAME_new());
  std::uint8_t address[16];
  const int bytes = ::inet_pton(AF_INET, text, address) == 1 ? 4 : ::inet_pton(AF_INET6, text, address) == 1 ? 16 : 0;
  ASN1_STRING* value = bytes > 0 ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
  const int set = bytes > 0 ? ASN1_STRING_set(value, address, bytes)
                            : ASN1_STRING_set(value, text, static_cast<int>(std::strlen(text)));
  if (name == nullptr || value == nullptr || set != 1) {
    return nullptr;
  }
  GENERAL_NAME_set0_value(name.get(), bytes > 0 ? GEN_IPADD : GEN_DNS, value);
  return name;
}

bool add_names(X509* certificate, const char* const* names, std::size_t name_count) {
  bssl::UniquePtr<GENERAL_NAMES> list(GENERAL_NAMES_new());
  for (std::size_t i = 0; i < name_count; ++i) {
    bssl::UniquePtr<GENERAL_NAME> name = general_name(names[i]);
    if (name == nullptr || sk_GENERAL_NAME_push(list.get(), name.get()) == 0) {
      return false;
    }
    static_cast<void>(name.release());  // the list has it
  }
  return X509_add1_ext_i2d(certificate, NID_subject_alt_name, list.get(), 0, 0) == 1;
}

// Its own authority, so that whoever trusts it can verify it.
bool add_basic_constraints(X509* certificate) {
  bssl::UniquePtr<BASIC_CONSTRAINTS> constraints(BASIC_CONSTRAINTS_new());
  constraints->ca = 1;
  return X509_add1_ext_i2d(certificate, NID_basic_constraints, constraints.get(), 1, 0) == 1;
}

bool fill(X509* certificate, EVP_PKEY* key, const char* const* names, std::size_t name_count, unsigned days) {
  std::uint64_t serial = 0;
  RAND_bytes(reinterpret_cast<std::uint8_t*>(&serial), sizeof serial);
  X509_NAME* subject = X509_get_subject_name(certificate);
  const auto* common_name = reinterpret_cast<const std::uint8_t*>("setsuna");
  return X509_set_version(certificate, X509_VERSION_3) == 1 &&
         ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial >> 1) == 1 &&
         X509_gmtime_adj(X509_getm_notBefore(certificate), -kSkewSeconds) != nullptr &&
         X509_gmtime_adj(X509_getm_notAfter(certificate), static_cast<long>(days) * kSecondsPerDay) != nullptr &&
         X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8, common_name, -1, -1, 0) == 1 &&
         X509_set_issuer_name(certificate, subject) == 1 && X509_set_pubkey(certificate, key) == 1 &&
         add_names(certificate, names, name_count) && add_basic_constraints(certificate) &&
         X509_sign(certificate, key, EVP_sha256()) != 0;
}

char* text_of(BIO* bio) {
  const std::uint8_t* data = nullptr;
  std::size_t size = 0;
  if (BIO_mem_contents(bio, &data, &size) != 1) {
    return nullptr;
  }
  auto* text = static_cast<char*>(std::malloc(size + 1));
  if (text != nullptr) {
    std::memcpy(text, data, size);
    text[size] = '\0';
  }
  return text;
}

}  // namespace

int make_certificate(const char* const* names, std::size_t name_count, unsigned days, char** certificate, char** key,
                     char* error, std::size_t error_bytes) {
  const bssl::UniquePtr<EVP_PKEY> own = make_key();
  const bssl::UniquePtr<X509> made(X509_new());
  const bssl::UniquePtr<BIO> certificate_bio(BIO_new(BIO_s_mem()));
  const bssl::UniquePtr<BIO> key_bio(BIO_new(BIO_s_mem()));
  if (own == nullptr || made == nullptr || certificate_bio == nullptr || key_bio == nullptr ||
      !fill(made.get(), own.get(), names, name_count, days) ||
      PEM_write_bio_X509(certificate_bio.get(), made.get()) != 1 ||
      PEM_write_bio_PKCS8PrivateKey(key_bio.get(), own.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    write_error("no certificate could be made: " + last_error(), error, error_bytes);
    return 0;
  }
  *certificate = text_of(certificate_bio.get());
  *key = text_of(key_bio.get());
  return *certificate != nullptr && *key != nullptr ? 1 : 0;
}

void release(char* text) { std::free(text); }

}  // namespace setsuna::tls
