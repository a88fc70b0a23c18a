# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  storage:
    description: The object store that owns the models, keyed by its type; exactly one key.
    type: dict
    required: true
    suboptions:
      s3:
        description: An S3 bucket, at AWS or at any store that speaks its protocol.
        type: dict
        suboptions:
          bucket:
            description: Name of the bucket.
            type: str
            required: true
          region:
            description: Region of the bucket. With an endpoint whatever that store calls it.
            type: str
            default: us-east-1
          endpoint:
            description:
              - URL of a self-hosted store, for example V(https://minio.example.com:9000), without path and query.
              - Without it the URL of AWS in O(storage.s3.region).
            type: str
          path_style:
            description:
              - Put the bucket in the path instead of the host name.
              - Always so for a bucket with dots in its name and for an endpoint that is an IP address.
            type: bool
            default: false
          requester_pays:
            description: The bucket lets its requesters pay. Every request says then that whoever signs it pays, those of the hosts too.
            type: bool
            default: false
          access_key:
            description: Access key id, which goes with O(storage.s3.secret_key). Or give an identity.
            type: str
          secret_key:
            description: Secret access key.
            type: str
          session_token:
            description: Session token of temporary credentials.
            type: str
          identity:
            description:
              - Who gives out credentials, in place of keys in a variable. They are kept in memory only and renewed before they expire.
              - Whoever signs asks for itself, so it must reach who gives them out.
            type: dict
            suboptions:
              source:
                description:
                  - V(instance) is the role of the EC2 instance that signs, by version 2 of its metadata service, never by version 1.
                  - V(web_identity) is a role for a token of another authority, such as a Kubernetes cluster or the runner of a pipeline.
                type: str
                choices: [instance, web_identity]
                required: true
              role_arn:
                description: ARN of the role that the token may assume. Required with O(storage.s3.identity.source=web_identity).
                type: str
              token_path:
                description:
                  - Absolute path of the file with the token, on the machine that signs; whoever issues the token renews the file.
                  - Required with O(storage.s3.identity.source=web_identity).
                type: path
              endpoint:
                description:
                  - URL of who gives out credentials, without path and query, if not V(http://169.254.169.254), or with
                    O(storage.s3.identity.source=web_identity) STS in the region of the bucket.
                  - The token of V(web_identity) goes there, so have it be V(https) but for a test.
                type: str
      oss:
        description: A bucket of Alibaba Cloud OSS.
        type: dict
        suboptions:
          bucket:
            description: Name of the bucket.
            type: str
            required: true
          region:
            description: Region of the bucket, for example V(cn-hangzhou), without the C(oss-) of its host name.
            type: str
            required: true
          endpoint:
            description:
              - URL of the region's servers, for example V(https://oss-cn-hangzhou-internal.aliyuncs.com), without bucket, path and query.
              - Without it the public one of O(storage.oss.region).
            type: str
          access_key_id:
            description: AccessKey ID.
            type: str
          access_key_secret:
            description: AccessKey secret.
            type: str
          security_token:
            description: Security token of temporary credentials.
            type: str
          identity:
            description:
              - Who gives out credentials, in place of keys in a variable. They are kept in memory only and renewed before they expire.
              - Whoever signs asks for itself, so it must reach who gives them out.
            type: dict
            suboptions:
              source:
                description:
                  - V(instance) is the RAM role of the ECS instance that signs, by the security hardening mode of its metadata service
                    only.
                  - V(web_identity) is a RAM role for a token of another authority, such as a Kubernetes cluster or the runner of a
                    pipeline.
                type: str
                choices: [instance, web_identity]
                required: true
              role_arn:
                description: ARN of the role that the token may assume. Required with O(storage.oss.identity.source=web_identity).
                type: str
              oidc_provider_arn:
                description: ARN of the identity provider in RAM. Required with O(storage.oss.identity.source=web_identity).
                type: str
              token_path:
                description:
                  - Absolute path of the file with the token, on the machine that signs; whoever issues the token renews the file.
                  - Required with O(storage.oss.identity.source=web_identity).
                type: path
              endpoint:
                description:
                  - URL of who gives out credentials, without path and query, if not V(http://100.100.100.200), or with
                    O(storage.oss.identity.source=web_identity) V(https://sts.aliyuncs.com).
                  - The token of V(web_identity) goes there, so have it be V(https) but for a test.
                type: str
          signature_version:
            description: Version of the signature. V(v1) is for servers that do not know V(v4).
            type: str
            choices: [v4, v1]
            default: v4
      gcs:
        description:
          - A bucket of Google Cloud Storage.
          - Needs exactly one of O(storage.gcs.service_account_json), O(storage.gcs.service_account_file) and O(storage.gcs.identity).
        type: dict
        suboptions:
          bucket:
            description: Name of the bucket.
            type: str
            required: true
          service_account_json:
            description: The content of a service account's key file, as text or as the mapping that it is.
            type: json
          service_account_file:
            description:
              - Absolute path of the key file of a service account, on the machine that uses the key.
              - For the endpoint plugin that is every GPU host, where the user of TorchServe must be able to read the file.
            type: path
          identity:
            description:
              - Who gives out credentials, in place of keys in a variable. They are kept in memory only and renewed before they expire.
              - Whoever signs asks for itself, so it must reach who gives them out.
            type: dict
            suboptions:
              source:
                description:
                  - V(instance) is the service account of the machine that signs, by Google's metadata server. It needs the role Service
                    Account Token Creator on itself.
                  - V(web_identity) is workload identity federation, for a token of another authority, such as a Kubernetes cluster or
                    the runner of a pipeline.
                type: str
                choices: [instance, web_identity]
                required: true
              audience:
                description:
                  - Name of the provider of the pool, C(//iam.googleapis.com/projects/…/providers/…). Required with
                    O(storage.gcs.identity.source=web_identity).
                type: str
              service_account:
                description:
                  - Email of the service account that signs. The identity of the token needs Service Account Token Creator on it.
                  - Required with O(storage.gcs.identity.source=web_identity).
                type: str
              token_path:
                description:
                  - Absolute path of the file with the token, on the machine that signs; whoever issues the token renews the file.
                  - Required with O(storage.gcs.identity.source=web_identity).
                type: path
              iam_endpoint:
                description:
                  - URL of who signs for the service account, without path and query, if not V(https://iamcredentials.googleapis.com).
                type: str
              endpoint:
                description:
                  - URL of who gives out credentials, without path and query, if not V(http://169.254.169.254), or with
                    O(storage.gcs.identity.source=web_identity) V(https://sts.googleapis.com).
                  - The token of V(web_identity) goes there, so have it be V(https) but for a test.
                type: str
          project_id:
            description: Project of the bucket. Without it the service account's own.
            type: str
          user_project:
            description: Project that pays where the bucket's requesters do. The service accounts need C(serviceusage.services.use) in it.
            type: str
          endpoint:
            description: URL of another server than V(https://storage.googleapis.com), without path and query.
            type: str
      abs:
        description: A container of Azure Blob Storage.
        type: dict
        suboptions:
          account_name:
            description: Name of the storage account.
            type: str
            required: true
          account_key:
            description:
              - One of the two access keys of the storage account, in base64.
              - Either of them may write as well; Azure has no account key that may only read.
            type: str
          identity:
            description:
              - Who gives out credentials, in place of keys in a variable. They are kept in memory only and renewed before they expire.
              - Whoever signs asks for itself, so it must reach who gives them out.
            type: dict
            suboptions:
              source:
                description:
                  - V(instance) is the managed identity of the Azure machine that signs.
                  - V(web_identity) is an application or a managed identity with a federated credential, for a token of another
                    authority, such as a Kubernetes cluster or the runner of a pipeline.
                  - Either signs with a user delegation key, which it asks of the storage account. It needs Storage Blob Data Reader on
                    that.
                type: str
                choices: [instance, web_identity]
                required: true
              tenant_id:
                description: The directory of the application. Required with O(storage.abs.identity.source=web_identity).
                type: str
              client_id:
                description:
                  - The application. Required with O(storage.abs.identity.source=web_identity); with V(instance) the one of several
                    managed identities.
                type: str
              token_path:
                description:
                  - Absolute path of the file with the token, on the machine that signs; whoever issues the token renews the file.
                  - Required with O(storage.abs.identity.source=web_identity).
                type: path
              endpoint:
                description:
                  - URL of who gives out credentials, without path and query, if not V(http://169.254.169.254), or with
                    O(storage.abs.identity.source=web_identity) the login server of the cloud.
                  - The token of V(web_identity) goes there, so have it be V(https) but for a test.
                type: str
          container:
            description: Name of the container.
            type: str
            required: true
          endpoint_suffix:
            description: Domain of the Azure cloud. Not together with O(storage.abs.endpoint).
            type: str
            choices: [core.windows.net, core.usgovcloudapi.net, core.chinacloudapi.cn]
            default: core.windows.net
          endpoint:
            description:
              - URL of another server, without path and query. It stands for the account, as a custom domain does.
              - With O(storage.abs.path_style) the name of the account follows in the path.
            type: str
          path_style:
            description:
              - Put the name of the account in the path after O(storage.abs.endpoint), as emulators need it.
              - Always so for an endpoint that is an IP address.
            type: bool
            default: false
      obs:
        description: A bucket of Huawei Cloud OBS.
        type: dict
        suboptions:
          bucket:
            description: Name of the bucket.
            type: str
            required: true
          region:
            description: Region of the bucket, for example V(cn-north-4).
            type: str
            required: true
          endpoint:
            description:
              - URL of another server than C(https://obs.<region>.myhuaweicloud.com), C(.eu) for V(eu-west-101). Without path and query.
            type: str
          path_style:
            description:
              - Put the bucket in the path instead of the host name. Publishing to a bucket with dots in its name needs it.
              - Always so for an endpoint that is an IP address.
            type: bool
            default: false
          access_key_id:
            description: Access key id (AK).
            type: str
          secret_access_key:
            description: Secret access key (SK).
            type: str
          security_token:
            description: Security token of temporary credentials.
            type: str
          identity:
            description:
              - Who gives out credentials, in place of keys in a variable. They are kept in memory only and renewed before they expire.
              - Whoever signs asks for itself, so it must reach who gives them out.
            type: dict
            suboptions:
              source:
                description: V(instance) is the agency of the server that signs.
                type: str
                choices: [instance]
                required: true
              endpoint:
                description: URL of who gives out credentials, without path and query, if not V(http://169.254.169.254).
                type: str
          signature:
            description: Kind of the signature. V(v4) is that of S3, for servers that do not know OBS's own.
            type: str
            choices: [obs, v4]
            default: obs
      http:
        description: Files of a web server. An object is at its key below the URL.
        type: dict
        suboptions:
          url:
            description: URL without user and query, for example V(https://files.example.com/models).
            type: str
            required: true
          headers:
            description: Headers that let a request in. They are no signature, whoever has them can read everything that they open.
            type: list
            elements: dict
            default: []
            suboptions:
              name:
                description: Name of the header.
                type: str
                required: true
              value:
                description: Value of the header.
                type: str
                required: true
          headers_reach_daemon_logs:
            description:
              - Must be V(true) with O(storage.http.headers), to say that this is accepted.
              - dfdaemon and the scheduler pass on the headers of a request and write them to their logs at level info.
            type: bool
            default: false
          headers_reach_unverified_server:
            description:
              - Must be V(true) with O(storage.http.headers), to say that this is accepted.
              - dfdaemon sends them to the server without verifying its certificate, and with an C(http) URL in clear text, so that
                whoever is on the way can take them.
            type: bool
            default: false
"""

    CREDENTIALS = r"""
options:
  credentials:
    description:
      - Credentials that may write, keyed by the type of the store in O(storage). Without them those in O(storage).
      - Nothing of the credentials in O(storage) is kept beside them.
    type: dict
    suboptions:
      s3:
        description: Credentials for S3.
        type: dict
        suboptions:
          access_key:
            description: Access key id, which goes with O(credentials.s3.secret_key). Or give an identity.
            type: str
          secret_key:
            description: Secret access key.
            type: str
          session_token:
            description: Session token of temporary credentials.
            type: str
          identity:
            description:
              - Who gives out credentials, in place of keys in a variable. They are kept in memory only and renewed before they expire.
              - Whoever signs asks for itself, so it must reach who gives them out.
            type: dict
            suboptions:
              source:
                description:
                  - V(instance) is the role of the EC2 instance that signs, by version 2 of its metadata service, never by version 1.
                  - V(web_identity) is a role for a token of another authority, such as a Kubernetes cluster or the runner of a pipeline.
                type: str
                choices: [instance, web_identity]
                required: true
              role_arn:
                description: ARN of the role that the token may assume. Required with O(credentials.s3.identity.source=web_identity).
                type: str
              token_path:
                description:
                  - Absolute path of the file with the token, on the machine that signs; whoever issues the token renews the file.
                  - Required with O(credentials.s3.identity.source=web_identity).
                type: path
              endpoint:
                description:
                  - URL of who gives out credentials, without path and query, if not V(http://169.254.169.254), or with
                    O(credentials.s3.identity.source=web_identity) STS in the region of the bucket.
                  - The token of V(web_identity) goes there, so have it be V(https) but for a test.
                type: str
          endpoint:
            description: URL at which this machine reaches the store, if not that in O(storage).
            type: str
          server_side_encryption:
            description:
              - Encryption by the store, for a bucket whose policy demands it of every new object. Hosts read such objects like others.
              - With a key of KMS the credentials of the hosts need C(kms:Decrypt).
              - Keys of the publisher (SSE-C) cannot be used, as a reader must send them in headers, and a presigned URL has none.
            type: str
            choices: [AES256, "aws:kms", "aws:kms:dsse"]
          sse_kms_key_id:
            description: Id or ARN of the KMS key. Without it the bucket's own, or that of AWS.
            type: str
          checksum_algorithm:
            description: Checksum that is sent along. Where a bucket with Object Lock demands one, V(CRC32) is sent unasked.
            type: str
            choices: [CRC32, SHA1, SHA256]
      oss:
        description: Credentials for OSS.
        type: dict
        suboptions:
          access_key_id:
            description: AccessKey ID.
            type: str
          access_key_secret:
            description: AccessKey secret.
            type: str
          security_token:
            description: Security token of temporary credentials.
            type: str
          identity:
            description:
              - Who gives out credentials, in place of keys in a variable. They are kept in memory only and renewed before they expire.
              - Whoever signs asks for itself, so it must reach who gives them out.
            type: dict
            suboptions:
              source:
                description:
                  - V(instance) is the RAM role of the ECS instance that signs, by the security hardening mode of its metadata service
                    only.
                  - V(web_identity) is a RAM role for a token of another authority, such as a Kubernetes cluster or the runner of a
                    pipeline.
                type: str
                choices: [instance, web_identity]
                required: true
              role_arn:
                description: ARN of the role that the token may assume. Required with O(credentials.oss.identity.source=web_identity).
                type: str
              oidc_provider_arn:
                description: ARN of the identity provider in RAM. Required with O(credentials.oss.identity.source=web_identity).
                type: str
              token_path:
                description:
                  - Absolute path of the file with the token, on the machine that signs; whoever issues the token renews the file.
                  - Required with O(credentials.oss.identity.source=web_identity).
                type: path
              endpoint:
                description:
                  - URL of who gives out credentials, without path and query, if not V(http://100.100.100.200), or with
                    O(credentials.oss.identity.source=web_identity) V(https://sts.aliyuncs.com).
                  - The token of V(web_identity) goes there, so have it be V(https) but for a test.
                type: str
          endpoint:
            description: URL at which this machine reaches the store, if not that in O(storage).
            type: str
      gcs:
        description: Credentials for GCS, exactly one of the three.
        type: dict
        suboptions:
          service_account_json:
            description: The content of a service account's key file, as text or as the mapping that it is.
            type: json
          service_account_file:
            description: Absolute path of the key file of a service account, on the machine where the module runs.
            type: path
          identity:
            description:
              - Who gives out credentials, in place of keys in a variable. They are kept in memory only and renewed before they expire.
              - Whoever signs asks for itself, so it must reach who gives them out.
            type: dict
            suboptions:
              source:
                description:
                  - V(instance) is the service account of the machine that signs, by Google's metadata server. It needs the role Service
                    Account Token Creator on itself.
                  - V(web_identity) is workload identity federation, for a token of another authority, such as a Kubernetes cluster or
                    the runner of a pipeline.
                type: str
                choices: [instance, web_identity]
                required: true
              audience:
                description:
                  - Name of the provider of the pool, C(//iam.googleapis.com/projects/…/providers/…). Required with
                    O(credentials.gcs.identity.source=web_identity).
                type: str
              service_account:
                description:
                  - Email of the service account that signs. The identity of the token needs Service Account Token Creator on it.
                  - Required with O(credentials.gcs.identity.source=web_identity).
                type: str
              token_path:
                description:
                  - Absolute path of the file with the token, on the machine that signs; whoever issues the token renews the file.
                  - Required with O(credentials.gcs.identity.source=web_identity).
                type: path
              iam_endpoint:
                description:
                  - URL of who signs for the service account, without path and query, if not V(https://iamcredentials.googleapis.com).
                type: str
              endpoint:
                description:
                  - URL of who gives out credentials, without path and query, if not V(http://169.254.169.254), or with
                    O(credentials.gcs.identity.source=web_identity) V(https://sts.googleapis.com).
                  - The token of V(web_identity) goes there, so have it be V(https) but for a test.
                type: str
          endpoint:
            description: URL at which this machine reaches the store, if not that in O(storage).
            type: str
          kms_key_name:
            description:
              - Resource name of the key of Cloud KMS for every new object, where a policy demands it. Without it the bucket's default.
              - Keys of the publisher (CSEK) cannot be used, as a reader must send them in headers, and a signed URL has none.
            type: str
      abs:
        description: Credentials for ABS.
        type: dict
        suboptions:
          account_key:
            description: One of the two access keys of the storage account, in base64.
            type: str
          identity:
            description:
              - Who gives out credentials, in place of keys in a variable. They are kept in memory only and renewed before they expire.
              - Whoever signs asks for itself, so it must reach who gives them out.
            type: dict
            suboptions:
              source:
                description:
                  - V(instance) is the managed identity of the Azure machine that signs.
                  - V(web_identity) is an application or a managed identity with a federated credential, for a token of another
                    authority, such as a Kubernetes cluster or the runner of a pipeline.
                  - Either signs with a user delegation key, which it asks of the storage account. It needs Storage Blob Data Reader on
                    that.
                type: str
                choices: [instance, web_identity]
                required: true
              tenant_id:
                description: The directory of the application. Required with O(credentials.abs.identity.source=web_identity).
                type: str
              client_id:
                description:
                  - The application. Required with O(credentials.abs.identity.source=web_identity); with V(instance) the one of several
                    managed identities.
                type: str
              token_path:
                description:
                  - Absolute path of the file with the token, on the machine that signs; whoever issues the token renews the file.
                  - Required with O(credentials.abs.identity.source=web_identity).
                type: path
              endpoint:
                description:
                  - URL of who gives out credentials, without path and query, if not V(http://169.254.169.254), or with
                    O(credentials.abs.identity.source=web_identity) the login server of the cloud.
                  - The token of V(web_identity) goes there, so have it be V(https) but for a test.
                type: str
          endpoint:
            description: URL at which this machine reaches the store, if not that in O(storage).
            type: str
          encryption_scope:
            description:
              - Encryption scope of every new blob. Without it the default of the container.
              - Keys of the publisher (CPK) cannot be used, as a reader must send them in headers, and a SAS has none.
            type: str
      obs:
        description: Credentials for OBS.
        type: dict
        suboptions:
          access_key_id:
            description: Access key id (AK).
            type: str
          secret_access_key:
            description: Secret access key (SK).
            type: str
          security_token:
            description: Security token of temporary credentials.
            type: str
          identity:
            description:
              - Who gives out credentials, in place of keys in a variable. They are kept in memory only and renewed before they expire.
              - Whoever signs asks for itself, so it must reach who gives them out.
            type: dict
            suboptions:
              source:
                description: V(instance) is the agency of the server that signs.
                type: str
                choices: [instance]
                required: true
              endpoint:
                description: URL of who gives out credentials, without path and query, if not V(http://169.254.169.254).
                type: str
          endpoint:
            description: URL at which this machine reaches the store, if not that in O(storage).
            type: str
          server_side_encryption:
            description:
              - Encryption by the store, for a bucket whose policy demands it of every new object. Hosts read such objects like others.
              - Keys of the publisher (SSE-C) cannot be used, as a reader must send them in headers, and a signed URL has none.
            type: str
            choices: [AES256, kms]
          sse_kms_key_id:
            description: Id of the key of DEW. Without it the default key.
            type: str
      http:
        description: Headers with which the web server lets one write.
        type: dict
        suboptions:
          url:
            description: URL at which this machine reaches the server, if not that in O(storage).
            type: str
          headers:
            description: Headers that let a request in. No daemon sees these.
            type: list
            elements: dict
            default: []
            suboptions:
              name:
                description: Name of the header.
                type: str
                required: true
              value:
                description: Value of the header.
                type: str
                required: true
"""

    PUBLISHING = r"""
options:
  progress_path:
    description:
      - File to which lines about a running upload are appended, one a second at most. It is for whoever wants to watch.
      - Where Ansible runs the module on the controller itself, it shows these lines on the terminal without this option.
    type: path
  ca_path:
    description:
      - CA bundle in PEM to trust instead of the one that the store's library brings along, for a plain HTTP server that of this machine.
    type: path
  validate_certs:
    description: Whether the store's certificate is verified.
    type: bool
    default: true
requirements:
  - boto3 >= 1.36 (S3, OSS, OBS)
  - google-cloud-storage >= 3.0 (GCS)
  - azure-storage-blob >= 12.15 (ABS)
"""
