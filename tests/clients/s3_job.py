# A job that speaks to S3, DynamoDB and Lambda with keys that are placeholders: unchanged boto3, and what boto3 does not do
# (bodies whose pieces are signed) by hand.
#   s3_job.py URL
import datetime, hashlib, hmac, os, sys, urllib.parse, urllib.request, zlib, base64, http.client
import boto3
from botocore.config import Config

url = sys.argv[1]
def client(service, **more):
    return boto3.client(service, endpoint_url=url, region_name='eu-west-3', aws_access_key_id='AKIAPLACEHOLDER',
                        aws_secret_access_key='PLACEHOLDERSECRET', config=Config(s3={'addressing_style': 'path'} | more, retries={'total_max_attempts': 1}))
s3 = client('s3')
MIB = os.urandom(1 << 20)

def same(key, data):
    assert s3.get_object(Bucket='b', Key=key)['Body'].read() == data, key

s3.put_object(Bucket='b', Key='one', Body=MIB)
same('one', MIB)
for key in ["a b+c/\u00e4!*'()~.txt", 'x//y', 'per%cent', 'q?=&;:@,$', '.../z']:
    s3.put_object(Bucket='b', Key=key, Body=key.encode())
    same(key, key.encode())
s3.put_object(Bucket='b', Key='empty', Body=b'')
same('empty', b'')
s3.put_object(Bucket='b', Key='meta', Body=b'm', Metadata={'a': 'one  two', 'B': 'x'}, ContentType='text/plain; charset=utf-8', StorageClass='STANDARD_IA')
signing = client('s3', payload_signing_enabled=True)
signing.put_object(Bucket='b', Key='hashed', Body=MIB)
same('hashed', MIB)
s3.list_objects_v2(Bucket='b', Prefix='a b+c/\u00e4&=?', Delimiter='/')
part = os.urandom(5 << 20)
upload = s3.create_multipart_upload(Bucket='b', Key='big')['UploadId']
parts = [{'PartNumber': n, 'ETag': s3.upload_part(Bucket='b', Key='big', UploadId=upload, PartNumber=n, Body=part)['ETag']} for n in (1, 2)]
s3.complete_multipart_upload(Bucket='b', Key='big', UploadId=upload, MultipartUpload={'Parts': parts})
same('big', part + part)
presigned = s3.generate_presigned_url('get_object', Params={'Bucket': 'b', 'Key': 'one'}, ExpiresIn=60)
import ssl
context = ssl.create_default_context(cafile=os.environ.get('AWS_CA_BUNDLE') or os.environ.get('SSL_CERT_FILE'))
assert urllib.request.urlopen(presigned, context=context).read() == MIB
assert client('dynamodb').list_tables()['TableNames'] == ['one']
client('lambda').get_function(FunctionName='arn:aws:lambda:eu-west-3:123456789012:function:my-fun')

# By hand: pieces signed with the placeholder.
def pieces(data, size, trailer):
    host = urllib.parse.urlsplit(url).netloc
    kind = 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD' + ('-TRAILER' if trailer else '')
    now = datetime.datetime.now(datetime.timezone.utc)
    date, day = now.strftime('%Y%m%dT%H%M%SZ'), now.strftime('%Y%m%d')
    scope = f'{day}/eu-west-3/s3/aws4_request'
    sha = lambda b: hashlib.sha256(b).hexdigest()
    key = b'AWS4PLACEHOLDERSECRET'
    for p in scope.split('/'):
        key = hmac.new(key, p.encode(), hashlib.sha256).digest()
    sign = lambda text: hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    fields = {'content-encoding': 'aws-chunked', 'host': host, 'x-amz-content-sha256': kind, 'x-amz-date': date, 'x-amz-decoded-content-length': str(len(data))}
    if trailer:
        fields['x-amz-trailer'] = 'x-amz-checksum-crc32'
    names = ';'.join(sorted(fields))
    request = '\n'.join(['PUT', '/b/pieces', '', ''.join(f'{n}:{fields[n]}\n' for n in sorted(fields)), names, kind])
    before = sign('\n'.join(['AWS4-HMAC-SHA256', date, scope, sha(request.encode())]))
    fields['authorization'] = f'AWS4-HMAC-SHA256 Credential=AKIAPLACEHOLDER/{scope}, SignedHeaders={names}, Signature={before}'
    body = b''
    for piece in [data[at:at + size] for at in range(0, len(data), size)] + [b'']:
        before = sign('\n'.join(['AWS4-HMAC-SHA256-PAYLOAD', date, scope, before, sha(b''), sha(piece)]))
        body += f'{len(piece):x};chunk-signature={before}\r\n'.encode() + piece + (b'\r\n' if piece else b'')
    if trailer:
        sum = base64.b64encode(zlib.crc32(data).to_bytes(4, 'big')).decode()
        before = sign('\n'.join(['AWS4-HMAC-SHA256-TRAILER', date, scope, before, sha(f'x-amz-checksum-crc32:{sum}\n'.encode())]))
        body += f'x-amz-checksum-crc32:{sum}\r\nx-amz-trailer-signature:{before}\r\n'.encode()
    body += b'\r\n'
    c = http.client.HTTPSConnection(host, context=context)
    c.request('PUT', '/b/pieces', body, fields)
    answer = c.getresponse()
    assert answer.status == 200, answer.read()
    same('pieces', data)

pieces(MIB, 65536, False)
pieces(MIB, 131072, True)
pieces(b'x', 8192, True)
print('all good')
