"""Words of the fact world. Every phrase here is one token of its tokenizer."""

from __future__ import annotations

POOLS: dict[str, tuple[str, ...]] = {
    "name": tuple(
        "Aldren Bessim Corvane Dellick Ensor Fennimar Galtry Hollis Ibrane Jessamy Kestrin Lorvik "
        "Mardoc Nessary Ostrel Pellan Quillon Rosmere Sennit Tarquey Ulveth Vessaly Wendrik Yorrel".split()
    ),
    "town": tuple(
        "Ashmoor Brackwell Cairnby Dunholt Eastmere Fallowick Greyford Harrowgate Inverlin Jarnsea Kelbrook Lydstow "
        "Millhaven Northolm Oakshire Penrath Quarrend Ridgeton Stonewade Thornbury Underlea Valecross Westfarne "
        "Yarrowdale".split()
    ),
    "stuff": tuple(
        "amber basalt cedar copper ebony flint glass granite horn iron ivory jade jet leather limestone marble oak "
        "pewter quartz sandstone silver slate tin walnut".split()
    ),
    "year": tuple(
        "1204 1219 1233 1247 1258 1266 1281 1295 1307 1318 1324 1339 1352 1361 1376 1388 1399 1412 1425 1437 1448 1456 "
        "1463 1479".split()
    ),
    "beast": tuple(
        "badger bear crane crow deer eagle falcon fox goose hare heron lynx magpie otter owl pike raven salmon stag "
        "stork swan trout wolf wren".split()
    ),
}

# kind -> three questions, each (its words, six attributes with the pool their values come from)
KINDS: dict[str, tuple[tuple[str, tuple[tuple[str, str], ...]], ...]] = {
    "painter": (
        (
            "early years",
            (
                ("birthplace", "town"),
                ("birth year", "year"),
                ("mother", "name"),
                ("first teacher", "name"),
                ("cradle wood", "stuff"),
                ("childhood pet", "beast"),
            ),
        ),
        (
            "career",
            (
                ("workshop town", "town"),
                ("patron", "name"),
                ("favourite pigment", "stuff"),
                ("first prize year", "year"),
                ("chief rival", "name"),
                ("signature animal", "beast"),
            ),
        ),
        (
            "last years",
            (
                ("resting place", "town"),
                ("death year", "year"),
                ("heir", "name"),
                ("tomb stone", "stuff"),
                ("final pupil", "name"),
                ("memorial beast", "beast"),
            ),
        ),
    ),
    "island": (
        (
            "land",
            (
                ("main harbour", "town"),
                ("common rock", "stuff"),
                ("first mapper", "name"),
                ("survey year", "year"),
                ("native bird", "beast"),
                ("hidden ore", "stuff"),
            ),
        ),
        (
            "people",
            (
                ("founding family", "name"),
                ("settlement year", "year"),
                ("sister town", "town"),
                ("flag animal", "beast"),
                ("governor", "name"),
                ("craft material", "stuff"),
            ),
        ),
        (
            "trade",
            (
                ("largest buyer", "town"),
                ("chief export", "stuff"),
                ("charter year", "year"),
                ("guild master", "name"),
                ("toll keeper", "name"),
                ("seal figure", "beast"),
            ),
        ),
    ),
    "battle": (
        (
            "causes",
            (
                ("disputed town", "town"),
                ("first envoy", "name"),
                ("broken treaty year", "year"),
                ("stolen relic", "stuff"),
                ("insulted lord", "name"),
                ("omen animal", "beast"),
            ),
        ),
        (
            "course",
            (
                ("opening field", "town"),
                ("winning general", "name"),
                ("year of battle", "year"),
                ("shield metal", "stuff"),
                ("banner beast", "beast"),
                ("lost captain", "name"),
            ),
        ),
        (
            "aftermath",
            (
                ("peace town", "town"),
                ("peace year", "year"),
                ("peace broker", "name"),
                ("monument stone", "stuff"),
                ("chronicler", "name"),
                ("coin animal", "beast"),
            ),
        ),
    ),
    "engine": (
        (
            "invention",
            (
                ("inventor", "name"),
                ("patent year", "year"),
                ("first workshop", "town"),
                ("frame material", "stuff"),
                ("financier", "name"),
                ("emblem creature", "beast"),
            ),
        ),
        (
            "working",
            (
                ("boiler lining", "stuff"),
                ("valve designer", "name"),
                ("test site", "town"),
                ("trial year", "year"),
                ("whistle figure", "beast"),
                ("gear metal", "stuff"),
            ),
        ),
        (
            "use",
            (
                ("first owner", "name"),
                ("longest route end", "town"),
                ("retirement year", "year"),
                ("museum town", "town"),
                ("cargo", "stuff"),
                ("nickname animal", "beast"),
            ),
        ),
    ),
}

# Only for the biography task: kinds that no training question is about.
BIO_KINDS: dict[str, tuple[tuple[str, tuple[tuple[str, str], ...]], ...]] = {
    "ship": (
        (
            "life",
            (
                ("shipyard", "town"),
                ("launch year", "year"),
                ("first captain", "name"),
                ("mast timber", "stuff"),
                ("figurehead", "beast"),
                ("shipwright", "name"),
                ("home port", "town"),
                ("main cargo", "stuff"),
                ("refit year", "year"),
                ("second captain", "name"),
                ("mascot", "beast"),
                ("insurer", "name"),
                ("wreck site", "town"),
                ("last voyage year", "year"),
                ("salvager", "name"),
                ("bell metal", "stuff"),
                ("museum keeper", "name"),
                ("pennant animal", "beast"),
            ),
        ),
    ),
    "song": (
        (
            "life",
            (
                ("composer", "name"),
                ("premiere town", "town"),
                ("premiere year", "year"),
                ("lead instrument wood", "stuff"),
                ("refrain animal", "beast"),
                ("first singer", "name"),
                ("printing town", "town"),
                ("printing year", "year"),
                ("dedicatee", "name"),
                ("manuscript cover", "stuff"),
                ("title page beast", "beast"),
                ("translator", "name"),
                ("festival town", "town"),
                ("revival year", "year"),
                ("arranger", "name"),
                ("organ pipe metal", "stuff"),
                ("critic", "name"),
                ("choir crest", "beast"),
            ),
        ),
    ),
}

SOURCES = ("Records say", "Letters say", "Guides claim", "Legend tells")
FILLERS = (
    "Much more could be told.",
    "Opinions on this differ.",
    "The sources are rich.",
    "Many visitors ask about it.",
)

CLUSTER_FIRST = "Amber Birch Copper Dusk Ember Frost Golden Hollow Ivory".split()
CLUSTER_SECOND = "Coast Downs Fells Gate March Reach Vale Wold".split()
ONSETS = "Al Bre Cal Dor El Fen Gri Hal Is Jor Kel Lu Mor Ner Or Pas Qua Ril Sol Tam Ul Ver Wil Yar Zen".split()
CODAS = "bane bert dane dora fin gard ias lan lis mar mund nia rick rion sten thar tia via wen wyn".split()
