"""The adapters to DynamoDB and S3: the only package that imports boto3, botocore or pynamodb."""
