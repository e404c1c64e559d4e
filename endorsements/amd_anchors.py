"""AMD's roots and signing CAs as trust anchors (RFC 5914: name and key), so that evidence need bring only the leaf.

Data only.  Source of every entry: AMD's key distribution service, ``/vcek/v1/{product}/cert_chain`` (ARK, ASK) and
``/vlek/v1/{product}/cert_chain`` (ARK, ASVK).  All keys are RSA-4096 with exponent 65537.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from ..evidence.snp import Product


class Role(StrEnum):
    """What a CA of AMD may sign."""

    ARK = "ARK"
    """The root: signs ASK, ASVK and revocation lists."""
    ASK = "ASK"
    """Signs VCEKs."""
    ASVK = "ASVK"
    """Signs VLEKs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A pinned CA.

    Attributes:
        product: the product whose chain it stands in.
        role: what it may sign.
        subject_cn: common name of the CA.
        serial: serial number of its certificate.
        not_before: start of the certificate's validity.
        not_after: end of the certificate's validity.
        certificate_sha256: SHA-256 of the DER certificate that AMD publishes.
        spki_sha256: SHA-256 of the DER SubjectPublicKeyInfo.
        modulus: RSA modulus.
    """

    product: Product
    role: Role
    subject_cn: str
    serial: int
    not_before: datetime
    not_after: datetime
    certificate_sha256: bytes
    spki_sha256: bytes
    modulus: int


PUBLIC_EXPONENT = 65537

ANCHORS = (
    Anchor(
        product=Product.MILAN,
        role=Role.ARK,
        subject_cn="ARK-Milan",
        serial=0x10000,
        not_before=datetime(2020, 10, 22, 17, 23, 5, tzinfo=UTC),
        not_after=datetime(2045, 10, 22, 17, 23, 5, tzinfo=UTC),
        certificate_sha256=bytes.fromhex("69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"),
        spki_sha256=bytes.fromhex("9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9"),
        modulus=int(
            "d0b779d9124e75e88996a2b625db15983ec592dba8b56c17d5f3605b8d5763d5f3d471214949a12f3f42bbd0c7465be02523716d"
            "e618b2725fbf28f1d4c7d4d15e6d90a894d447ac345b5ad644c0d2cccd8ac75873d8acaa4ee65d3e7e29f1916df73857ff734487"
            "04f2394737ad52d63bbc5fddfee9dc4352b1b64b3c6a278061ab2626503aee3d72525f8bd4734d4fee3f7c329a8e4bde6b391746"
            "1de239d8d6b3e66d81f8efaf8ec0b4eb4777ee363d2c57ae38fe0c7ab8bcaa07e2d92e642aa83f685e9a3edb80650551eeedca15"
            "85cfe7d5e6260b5ca20d398262344ff3a2b4b86ecd5be965c2e9874a1d87fd483d7ab1dfe3278c3f7b03b7d7a6a19dff2f0ac57e"
            "e392c4c4cc03a06ca01e6a6de59bedf228871360c96c44c5cf72335b22f9ac072903fffc529e2bacb870648279443445b1d5471b"
            "410aecfa054392e54f86c9f321136062f338f18fbb2c6889627ae613cc5cadec5e901c6bbdad95f53250aa7377439de4b79be242"
            "2dfe8027e69300b4174b62ac865b2e45cfacfc3367433d78dc6123249bda7a497e09eacf9e48d2edf7c21e2bd1935079319fc34d"
            "cc054b72bb319eb0691cc3e968a8c6aad6a478b6319b3d8c42be90aaefe3a0a420a830d8addae2e8f4cd7c7c7cf5d2538c4fc9d6"
            "014bd1645ced7970a6fbb3c77583e5990c14c372ef7a727f20b5e840f1df6e41f40b23df865d635a124565ab",
            16,
        ),
    ),
    Anchor(
        product=Product.MILAN,
        role=Role.ASK,
        subject_cn="SEV-Milan",
        serial=0x10001,
        not_before=datetime(2020, 10, 22, 18, 24, 20, tzinfo=UTC),
        not_after=datetime(2045, 10, 22, 18, 24, 20, tzinfo=UTC),
        certificate_sha256=bytes.fromhex("67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b"),
        spki_sha256=bytes.fromhex("42491669ccb851d627ea9846cd24eccbeb7de7c2a62740120fff88001d38ebb6"),
        modulus=int(
            "9d4d9daeb3537db84d4089657fe5b6cbe44e09b4b321dd5a2997edd93f738d940ece319c725d7b8b598829697b353701d15617b7"
            "7271652cce663b232cd54010dd8c1a3f5389e74bf907b02995f4266404b988e6f962a4b0bb7181d2e9f44ec464dc0d0ea575af4a"
            "913f9b41f0e5a4c906c874b7aee1a0b3ee3fd2975164072b5ebfdb1b146cededcc278f38bd9bb9e8aac93eb91541a77f889f7e50"
            "3dd723f187e51269c704dbee5032612c224c5bc28e8cfebef8f85bb378828ad25c00d12d5b8a93345a0a5b708795b7120a34ccf0"
            "ab0d6d4c7703c7a4e4454b8d9587d69b7d1374dfa51e97c9f40a9d8ea497968420fc1d5b778561aa8214fac8a3da504fa5ae0d23"
            "f82426096d99de28a21b663cd7909b773501b7d84ba46089816fd482926f7e7d2e4b64583da23cee6cc5f7f8d901a125c8ece3ef"
            "9c73318eea7d9b0e6c7ba41457b1aaa420364cdca9a259ae43e7006b157b26a1c4f1d97da567fe6376ab6fef628850b016de2502"
            "5270e43d024d14c2d58e585850c10ab03fbc69e64e7a86f02fa38d4012edc8e347cab838f8720e62513e7682fd91b9b8fd0ad33e"
            "86a0eff7b9e9fdc2ab210ae1de80b4e939e1c42512ab405af83d523054e074f9e6cee45828c8ec38de7c850f950a043c4407804a"
            "a3fd2e0222872d1bef80b6ce45b53c280448b35128a848e617c52dae64165768548f0ceac2f1c57a2f2b3f13",
            16,
        ),
    ),
    Anchor(
        product=Product.MILAN,
        role=Role.ASVK,
        subject_cn="SEV-VLEK-Milan",
        serial=0x10101,
        not_before=datetime(2022, 11, 16, 22, 45, 24, tzinfo=UTC),
        not_after=datetime(2047, 11, 16, 22, 45, 24, tzinfo=UTC),
        certificate_sha256=bytes.fromhex("c5e081f59b7efab1fe2f8b505e159704e72f29cab7ef7cf628a05a42439082f5"),
        spki_sha256=bytes.fromhex("66450a123ea5876206df67f2514a4fea224c0f63b18313423078b0edc4535e33"),
        modulus=int(
            "d44516933e454cfcfeb964f68421328ac6a6f0546e5d90264b797ead781209e4b5434fb5a257271522698b07ecb1f868bad26a78"
            "fca272ef8e8645f5df53cc78efd53ad1f7ba92b860d266ab7e88269ed95889b99cad9f24d9181075b49bf35770803d5368879796"
            "c043971b1a9f7bfc568e2785661a84cc57ae7c628c7fa6516665115f45cb30da1c8d86a525d60cdda6720880f932814a2f14481a"
            "6b42154a018b1d085942279b34b2d255645545ebded2df78ce544845176bcfce1c7243fd1fd0d301433241ac5265b3c834a6d5e9"
            "33e6b6bc0057d50fd50ab8d7cc67f48f82d12b16bad3ffe52d4e88bf0e4f34380af81b1ce7ddd85df256fe310c1cdae127a51768"
            "a0a037fe045e1723f2081c92f6379b8acb7fa09120765e5ea9ae8860566a9116f056f4e4c211adf65a15eed2dd59d5a6c4283677"
            "2e966df7f0ab83acf23e95c32d1fed2c71e949a3d18fb093cc789e28c4f3f90e91ac209070719f6800ff113358e7a687bcd25166"
            "06f35c3509be72ebddd6323afbe7fc3b4a8424a2989ca79fb2de9f802b0d5415c1744f7b7851fdab0213609a8d3ee4182d403ad5"
            "3342e20a652d83d1093be20dbdec984b1e91019508b28d127e2c2599371f6e25c8b11b2cdabfa7e2396c7853cb96851cc7b3c9ef"
            "0c075c4b82d6df5b4f940f4178e2bf0468a6413bbb84ce4c0c564bd02f5d58ae69b825097b1e88daf4aabf27",
            16,
        ),
    ),
    Anchor(
        product=Product.GENOA,
        role=Role.ARK,
        subject_cn="ARK-Genoa",
        serial=0x20000,
        not_before=datetime(2022, 1, 26, 15, 34, 37, tzinfo=UTC),
        not_after=datetime(2047, 1, 26, 15, 34, 37, tzinfo=UTC),
        certificate_sha256=bytes.fromhex("4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"),
        spki_sha256=bytes.fromhex("429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831"),
        modulus=int(
            "dc277de52fee14eb9122c916f6fcfd543045ebd343405efda1184bfcbd8f5501a12b761d7c4060a45fc98b058506c4ff7d70e1cc"
            "0d35a772e4713ffb2dd8dc45f2978c797ed10abf338759921e900e851e2b33412c37012830c65a8defdf9372af16c0d439e46305"
            "0a5390009383fde2d2972e9f34a31b7ce1a8721e82e673f2eab06b29fa8ab5073e0f3ec60bc131b888c29569a4fdd3fa19e08f28"
            "89b4abbbddaf26196a58edbb77f47173789433284d7864e83af831fe2528e201a91bad4d0e990452f233b8a71a331f08753a5683"
            "60c5e92c05d0881531f7e7bed26603af01c09356a351383cb25d68f7c189f709a6e045c0d55020f404557dda3fcf47252a7c61b6"
            "3d972492e8f95512a4c106d6909a2e004c698c47e9f62bf7be240854d868fb8c8a4984e91d1fd7e2ad00e79a50364857c9fc2734"
            "9863735bd466221c8e527345a1c966911865dff01053962cf50b1a9f58d3fc48b24fea42a669c0fb2f5e76f84309b386f05da8c4"
            "7191753064ca5ba782b917246622c06ad1f246a2aafecd37c42138132a62371bae412bd1ff1030a925212e6bb8e7ea94b302070f"
            "092c1dcb923a5682d0fb3a9c64cd2b2884de3b5289bce9163a969ef683c7971cfd6a62b9ef873686d52ef4bf0e8e91b69a0bd123"
            "887fee1e0009406c689fbbb443bc60a1111603f7bb25c050c0b83cd07abfb1b46ea9eb31cfbc01592636e787",
            16,
        ),
    ),
    Anchor(
        product=Product.GENOA,
        role=Role.ASK,
        subject_cn="SEV-Genoa",
        serial=0x20002,
        not_before=datetime(2022, 10, 31, 13, 33, 48, tzinfo=UTC),
        not_after=datetime(2047, 10, 31, 13, 33, 48, tzinfo=UTC),
        certificate_sha256=bytes.fromhex("5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521"),
        spki_sha256=bytes.fromhex("0324d55bcd48ba877a8fd87c0e1b4934dec8448e3807a24384a34dc6a6c9ebb8"),
        modulus=int(
            "a07261be4e05c309306f4dc031f2f24972525e611a09931345b2e03da8f8a04cda0fdb467f1092c3f9ec0808971d069652dfbe6e"
            "76e324ed394ca4f977e09daf3e3f7e2441a5b85fd31cef875d4efb025304f8f7b82cc39b8f2f119f25e525cc3b8c1dfd0ab0b2b7"
            "a314444f0ff1dd7efd66182316eda734ba0f2dac3cea19efa5fa9f0d323a7f12a043636bddf212da54b992f978c0aa561535192c"
            "87d693cd260bd7dfdc4eb0439aa436cbc936df3365da55baabf06d40ea56195b37116bc11dbfd09dfddfdd2f7e942e07da3743cb"
            "dca7ee4ab24d6ab8582067138aa160946892e958b7331933522593867a44f90e4d1d4c27881d16d8fb94a9ab912b8ea09626aa12"
            "48b1027ce789406c9c9b814ef3cb3580c2edee6ac96460a5040107f68dae47ca5dc806a3b3a6a637d52a4acdb97c357bde6726d1"
            "3249707dee220cb236e53f64bbd0957ad0d889f09b7467ae1dd4f064105e996e0d139ecbee2115f3ecf3f27c6783c38c5ffff8a5"
            "79ed5aa9906c402704bbf64e84e07751f6cd846d8720cb737575d7dffe1674d6d7b2cae9b2b34c28049c21d011c02dd210d02cb1"
            "7bf7dfb69594f1c5f044a1db8065ac7a2238003028ba7b565f28f25291dbdbda6dc1c1f3fc6e7886efe00426fd563849a7049735"
            "a55402b6d6c952875b8b4ed57de9f925152a02f48cdce6d640ecd2006cec1a7a488a0c05a56ea6f45eee6155",
            16,
        ),
    ),
    Anchor(
        product=Product.GENOA,
        role=Role.ASVK,
        subject_cn="SEV-VLEK-Genoa",
        serial=0x20101,
        not_before=datetime(2022, 11, 18, 20, 48, 34, tzinfo=UTC),
        not_after=datetime(2047, 11, 18, 20, 48, 34, tzinfo=UTC),
        certificate_sha256=bytes.fromhex("197e610743a917d6b9bb982a5a9226ccc0a15b611be0619e626aca9151457372"),
        spki_sha256=bytes.fromhex("7d1633252ebbadaa75f96e9b4e6f7d43a90ceb3f843937482630f8da2459264e"),
        modulus=int(
            "ccbdbfc62847b1c129c52dfe3ac419a40b8d20919211066b92858fb6a28c8e364ec9730c4470217939b9e848b431bf1325995b18"
            "34b9c7f01d6e8c2cb469a91ea876cef4af8d93bb578bfa16df38a7bd4fe865df395110802b9ab62b337c8c05ad1424fdc994ec7b"
            "8969d06ae97b5813ea8124c8eeb3c0b45b05bf21663d8faa4d6c40354a752f560eadf3dcdf13e01c07950308aab4f71eeac3eacf"
            "b7da53a44721d1fd5b1dd445265a605864ead36a211fd6d3fba6aef243e9bcc6b79b6a7ccdd208aadbae486eacac88a6ae9b76e2"
            "5b2be2d2e1406eb947f45b5494fd32c2b850ba5b0143b93707652f06e7a4b587894c2862bc92303f25df1443be13e62279571051"
            "28f256a1718965c6224947ca2aa80eb1de33c52a691f84481a41e7dc9f83fc9c0e1249ca80a0b8a19fbe62883b54dbe66590f9ca"
            "81c36ce54d4b7b8e35ca97a7da7ec13a7472866c3201404693739c3171ec27a286a432724d509a0b77d65f77b1e08bf82e4b8a44"
            "0e8ef72bb7cc73f6dcdfee6c4f3f63291f7c88cc6ed068380cdd5829fd944e1a9a8e1567ef1ec08bad6406260b94c840efb0594a"
            "8a62bd220286dc70c9d97498d43918d5a2a550f9d2ebfbfd68b64dfa81f3dcd0ba6685664a7c05c5f6c82f62d42371a47dc251ab"
            "f32491b59d98256a1fb91ef38181493c45d1c009db011ff4e61066a20ec232dd45f582929a4bba25f45e718f",
            16,
        ),
    ),
    Anchor(
        product=Product.TURIN,
        role=Role.ARK,
        subject_cn="ARK-Turin",
        serial=0x30000,
        not_before=datetime(2023, 5, 15, 20, 3, 12, tzinfo=UTC),
        not_after=datetime(2048, 5, 15, 20, 3, 12, tzinfo=UTC),
        certificate_sha256=bytes.fromhex("1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"),
        spki_sha256=bytes.fromhex("4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08"),
        modulus=int(
            "c1a02b881ec422e55ce19075c03dd87c3c4bfbd7b24bbfa2ce6d098f75bbef63483425a5f018f7c3f243d998e66d1c56748abfe1"
            "df626ab08aa2b5e5a09501d6345d831a9c713c7568ea22838fb6c355e1555253ecae39ef04f964b3498106b1a9af44b64c2377af"
            "bdb0e86508313d978de443447606291525afeecb254e4b0124e70e6d5ca3ae1bd8efaba42d00c25ab16dfcc25a910da2841ad67d"
            "554806a27dbb66e2f8b1326e0bf6b3cfdfe2401c3c9048a5cce97de4089391e6398d21010d66c0aa7664e6a94cee4212286db492"
            "0426d789a134a0c8da9da8b9afb3b801bb8b9d9ea68445d867d4d13624ff27febc2341dad9de721150b8fd9ef1b2e4f7965da8f8"
            "bdfd45b0e095e3b5d100e2ed896299524943d05405cab7a2d5aae8ed25c339f492abdaed1743be4ac3170ca75e604978417c89ef"
            "3c0c2e018e1d130c06a93f28220e1eb0f1f012c98286161e0c8c4f1bd4787f1f4ed2aea9f066fe1d7953892e3b3fd60d78ea6274"
            "e50acc397f4b53afca10ed48bf0b25cdb84004c5c9da3f883fca51dbc54d1943d1cae400c9192e8590f212c319ce816495ec75de"
            "d97f67b8516ded23fd6887fdaddb73addf3ca14dcbf98036c006ed0b8d57bdf2e4674b5e523302bffe526df5ee41a8abe0001912"
            "a0005ff81e1516d3d5117d3282b61a15a23d8b9001af19d5066cd7a516f6d622353653427ce1943c8855a561",
            16,
        ),
    ),
    Anchor(
        product=Product.TURIN,
        role=Role.ASK,
        subject_cn="SEV-Turin",
        serial=0x30001,
        not_before=datetime(2023, 5, 15, 20, 25, 21, tzinfo=UTC),
        not_after=datetime(2048, 5, 15, 20, 25, 21, tzinfo=UTC),
        certificate_sha256=bytes.fromhex("5b77ef5fe7a7a004fd9032668fba9d0fda22f88c4442069a479636a6ae3b3185"),
        spki_sha256=bytes.fromhex("0000ead352025f208bf55297c4192c34cd1b878002107366d8f2065a9ae7d3a9"),
        modulus=int(
            "9ef8391abbf612677d94084a74eeb845753750449be894e6d078737afc753f2c629f162a24bdf6f6a4c93345e6768ccb61beebb0"
            "7c60339236a54d7c33c81e72dda937f601d8b435fdb22adfb4cf0db83bca6d0c37a2a467a684471017d2fa18b5d0f23718c30148"
            "e946909ed4571c01ebff12cda7fc5cf51b54e60b65dea5342a68aa66b7a9a70d64821c256c42863481289b79a1ba76833a3a2354"
            "09b297682eca1c7e5bffde810f50c9f3833e247a8f0a51611ea509c33285e50c63e30816019ccaf143e188d1a3ac5ebe4c176514"
            "6752cc4ab0d633ab0931ddb98c8b2bee4e437388c384bebd978e568c496a34c859db2a60fd832dcd0790bd2a58eba610eaeb736f"
            "f80de1134a10743322291f4e6449a97240dd9e3793faa6d381f3885d74275b24f11ea670fe16a41aa75ba4c372bcb81720781480"
            "176debe94b53f1473987b32c597dcca198841dc4a40d043c21e75393b08b8ec2ba4bb6ff95f2aa7d889184a806911bec11dfcc0c"
            "d72e98764a220cdab09c206a0cd2820894a3d8d7a771169bce1fab2c4d5f34aeb4f07ba83e4ffd42c007eabd420bebcc2f179de6"
            "8b3f430dac784cf3451e8e6b014c892d32f16859521e9580cb75ca22d1e303e4345c71fb20ad8698ea1ffefea7fdb6083e997d3d"
            "509a6e48f445dfca32aa734d14c979bffb562e052c0a13d4e8d0900b5ed06aaafc9aedb29f2cae1c4b392555",
            16,
        ),
    ),
    Anchor(
        product=Product.TURIN,
        role=Role.ASVK,
        subject_cn="SEV-VLEK-Turin",
        serial=0x30101,
        not_before=datetime(2023, 5, 15, 21, 9, 41, tzinfo=UTC),
        not_after=datetime(2048, 5, 15, 21, 9, 41, tzinfo=UTC),
        certificate_sha256=bytes.fromhex("104e10a8bd060a3c20a434261a57d0588fd65a88915b4f65b08bdecaf8df1a3c"),
        spki_sha256=bytes.fromhex("bfc441408b2f806c5dbf180bd8920e6e60dd404d82141780d85dbf962954d386"),
        modulus=int(
            "a63aee8b89746688048747c37557c9e2e9e8c061a8964db05f2ce36e30bf7e7aa5845aa2163d4948a764612bf33d57e00d1d0c53"
            "658b972b6b006a8e1d805d938328cf7c474d726eb3be4d79fd04059a4693d3383d0185fa74ea622fa10e0baad78c1050496d37dc"
            "06ba79d479a333d1eea17c26ac0debe4ca920b329a27bd3bda338f51022a42bd38263d14e4400f218e5ded03a47b4bf1ca4e7ebf"
            "4374fbe00d017f280ae3d2cb91d1c5d395a8d2967daa63f2862d1187d7a96342fefd3d9ed7b7e88567026af804f8a17918ee5720"
            "dcee9f02a89420b21f7f77d220266f5befe6fe0f8a69c6b1f1f889ce24200a51d61640a54dd81b7a9413ce2a91be52100490b136"
            "424f426ffc0c42f52a39876c2b695cd6cfa1afa4f1c4b512afb9ee6f7a19303e3162a49313e59ec298db9773ed2571549930749b"
            "b301521ca2ada78174503a0f9ee216c3f7631838e41974bd5b9336377cd549b9fde1c27108ccce4f320b85c5ff9496ada28b257f"
            "1beab9c147f0fa52f7104c86e3787d33e5364fe855b43ac3ca7110c89ba342bc43e80eaaacdd566ea2ee3a2da1bb2e6311f51edb"
            "63b1ceb5bd2b244834f82643e3a935a2c8e9ac148fba39bfe1c9afdfaa97b410fcbaf133e4f3908e0bbbaa34cceee7cc5bd2e02d"
            "b746de7a30f1dbd99145b88f34be6d9f02bd2859990e9799592660cef9f62be4904caf3464a9fc62ad9229f5",
            16,
        ),
    ),
)
"""Both chains of every product whose keys AMD has published."""
