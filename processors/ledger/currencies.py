"""Currencies of ISO 4217 and the exponents of their minor units: 2 means that 100 minor units make one (F2).

The list decides too (UNKNOWN_CURRENCY), so it is part of the log's meaning: a release of ``Rules`` names its list, and
a list that shipped is never edited (I6). Exponents only show and read amounts; the ledger knows minor units alone.
"""

from __future__ import annotations

CODE_CHARACTERS = 3

# ISO 4217 List One, the codes in use in 2025, those that end within the year included. Codes without a minor unit
# (metals, drawing rights, units of the bond market, codes for testing) are no money to pay with.
_WHOLE = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_HUNDREDTHS = """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD
    CDF CHE CHF CHW CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP
    GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL
    MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN
    QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD
    TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
"""
_THOUSANDTHS = "BHD IQD JOD KWD LYD OMR TND"
_TEN_THOUSANDTHS = "CLF UYW"

_RELEASE_1 = {
    code: exponent
    for exponent, codes in ((0, _WHOLE), (2, _HUNDREDTHS), (3, _THOUSANDTHS), (4, _TEN_THOUSANDTHS))
    for code in codes.split()
}

EXPONENTS_OF: dict[int, dict[str, int]] = {1: _RELEASE_1, 2: _RELEASE_1, 3: _RELEASE_1, 4: _RELEASE_1}
"""By ``Rules.release``: code to exponent. Read only."""

EXPONENTS: dict[str, int] = EXPONENTS_OF[max(EXPONENTS_OF)]
"""The newest list, for showing and typing amounts; what a lane accepts goes by the release in force. Read only."""


def has_form_of_code(currency: str) -> bool:
    """Say whether a text might be a currency's code, in this release or another: three ASCII characters."""
    return len(currency) == CODE_CHARACTERS and currency.isascii()
