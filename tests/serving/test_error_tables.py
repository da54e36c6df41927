from serving import errors, rpc
from serving.http import errors as http_errors


def test_both_tables_know_every_code_and_no_other():
    assert set(http_errors.STATUS) == errors.all_codes()
    assert set(rpc.STATUS) == errors.all_codes()


def test_no_two_errors_share_a_code():
    classes = errors.FoveaError.__subclasses__()
    codes = [cls.code for cls in classes if cls is not errors.InternalError]
    assert len(codes) == len(set(codes))
    assert "INTERNAL" not in codes


def test_only_our_own_faults_are_internal():
    assert [code for code, status in http_errors.STATUS.items() if status == 500] == ["INTERNAL"]
